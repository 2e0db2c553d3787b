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

  GRAPNEL_DEVICE void operator()(int, int m, int n, float sum) const {
    if (bias) sum += device::load(device::Global<const float>(bias), n);
    device::store(device::Global<float>(c), m * row + n, sum);
  }
};

}  // namespace grapnel::kernels
