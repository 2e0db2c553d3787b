// Transposing blocks through the micro-kernel's registers; rows may lie anywhere, which is how packing
// permutes.
#pragma once

#include "grapnel/kernels/gemm/microkernel.h"

namespace grapnel::kernels {

inline constexpr int kMaxLanes = 16;

/// out[j][i] = in[i][j] for i < rows, j < columns, both at most kernel.lanes <= kMaxLanes. A null in[i] is
/// skipped.
inline void transpose(const MicroKernel& kernel, std::int64_t rows, std::int64_t columns,
                      const float* const* in, float* const* out) {
  bool whole = rows == kernel.lanes && columns == kernel.lanes;
  for (std::int64_t i = 0; i < rows && whole; ++i) whole = in[i] != nullptr;
  if (whole) return kernel.transpose(in, out);
  for (std::int64_t i = 0; i < rows; ++i) {
    if (in[i] == nullptr) continue;
    for (std::int64_t j = 0; j < columns; ++j) out[j][i] = in[i][j];
  }
}

}  // namespace grapnel::kernels
