// What gemm multiplies, matrices of any strides, and where its sums go.
#pragma once

#include "grapnel/kernels/gemm/tiled.cuh"

namespace grapnel::kernels {

/// An operand as rows (m or n) by k.
template <bool along_k, int width>
struct Strided {
  static constexpr bool kAlongK = along_k;
  static constexpr int kWidth = width;
  using Row = const float*;

  const float* data;
  std::int64_t row_stride, k_stride;
  int rows;

  GRAPNEL_DEVICE void enter(int) {}
  GRAPNEL_DEVICE Row row(int i) const { return i < rows ? data + i * row_stride : nullptr; }
  GRAPNEL_DEVICE const float* at(Row from, int k) const { return from ? from + k * k_stride : nullptr; }
};

struct StoreSum {
  float* c;
  const float* bias;
  std::int64_t row;

  bool in_fours() const { return row % 4 == 0 && aligned_for_four(c, bias); }
  template <int width>
  GRAPNEL_DEVICE void operator()(int, int m, int n, device::Vector<float, width> sums) const {
    if (bias) {
      const auto added = device::load_vector<width>(device::Global<const float>(bias), n);
      GRAPNEL_UNROLL
      for (int e = 0; e < width; ++e) sums[e] += added[e];
    }
    device::store_vector(device::Global<float>(c), m * row + n, sums);
  }
};

}  // namespace grapnel::kernels
