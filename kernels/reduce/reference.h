// Reductions one element at a time: obviously right, for comparison and for double.
#pragma once

#include <cstdint>
#include <limits>

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels::reference {

inline std::int64_t product(int rank, const std::int64_t* sizes) {
  std::int64_t count = 1;
  for (int d = 0; d < rank; ++d) count *= sizes[d];
  return count;
}

/// Where row-major element `flat` of a nest lies.
inline std::int64_t strided_offset(int rank, const std::int64_t* sizes, const std::int64_t* strides,
                                   std::int64_t flat) {
  std::int64_t offset = 0;
  for (int d = rank - 1; d >= 0; --d) {
    offset += flat % sizes[d] * strides[d];
    flat /= sizes[d];
  }
  return offset;
}

template <class T>
void reduce(Reduction op, const Reduce& shape, T* out, const T* x) {
  const std::int64_t kept = product(shape.kept_rank, shape.kept_sizes);
  const std::int64_t reduced = product(shape.reduced_rank, shape.reduced_sizes);
  for (std::int64_t k = 0; k < kept; ++k) {
    const T* start = x + strided_offset(shape.kept_rank, shape.kept_sizes, shape.x_kept_strides, k);
    double total = op == Reduction::sum ? 0 : -std::numeric_limits<double>::infinity();
    for (std::int64_t r = 0; r < reduced; ++r) {
      const double value =
          start[strided_offset(shape.reduced_rank, shape.reduced_sizes, shape.x_reduced_strides, r)];
      if (op == Reduction::sum) {
        total += value;
      } else if (value > total || value != value) {
        total = value;
      }
    }
    out[strided_offset(shape.kept_rank, shape.kept_sizes, shape.out_strides, k)] = static_cast<T>(total);
  }
}

}  // namespace grapnel::kernels::reference
