// What gemm multiplies, matrices by their strides, and where its sums go.
#pragma once

#include "grapnel/kernels/gemm/tiled.cuh"

namespace grapnel::kernels {

/// Operands as rows (m or n) by k, one for each group; where several elements are copied together, they lie
/// side by side. `rounded`: floats are TF32 already.
template <class T, bool along_k, int width, bool rounded = false>
struct Strided {
  static constexpr bool kAlongK = along_k, kRounded = rounded;
  static constexpr int kWidth = width;
  using Element = T;
  using Row = const T*;
  using Place = std::conditional_t<along_k && (width > 1), int, std::int64_t>;

  const T* data;
  std::int64_t row_stride, k_stride;
  int rows;
  std::int64_t group_stride;

  GRAPNEL_DEVICE void enter(int group) { data += group * group_stride; }
  /// Behind the last row the first: it is multiplied for nobody.
  GRAPNEL_DEVICE Row row(int i) const {
    return data + (i < rows ? i : 0) * (!along_k && width > 1 ? 1 : row_stride);
  }
  GRAPNEL_DEVICE Place place(int k) const {
    if constexpr (along_k && width > 1)
      return k;
    else
      return k * k_stride;
  }
  GRAPNEL_DEVICE bool holds(Row, Place) const { return true; }
  GRAPNEL_DEVICE const T* at(Row row, Place place) const { return row + place; }
};

struct StoreSum {
  float* c;
  const float* bias;
  std::int64_t row;
  bool relu = false;

  bool in_fours() const { return row % 4 == 0 && aligned_for_four(c, bias); }
  template <int width>
  GRAPNEL_DEVICE void operator()(int, int m, int n, device::Vector<float, width> sums) const {
    if (bias) {
      const auto added = device::load_vector<width>(device::Global<const float>(bias), n);
      GRAPNEL_UNROLL
      for (int e = 0; e < width; ++e) sums[e] += added[e];
    }
    if (relu) GRAPNEL_UNROLL for (int e = 0; e < width; ++e) sums[e] = sums[e] < 0 ? 0 : sums[e];
    device::store_vector(device::Global<float>(c), m * row + n, sums);
  }
};

}  // namespace grapnel::kernels
