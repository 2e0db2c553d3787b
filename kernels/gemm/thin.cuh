// A product with few rows, as linear layers have for few pictures: C (M,N) = A (M,K) B (K,N), both operands
// along k. It takes as long as B takes to be read, once: a warp makes some columns of all rows, its lanes
// share k, four at a time, and add up what they have in a fixed order. In every precision it is float32, but
// B may be bfloat16.
#pragma once

#include "grapnel/kernels/common/grid.cuh"
#include "grapnel/kernels/common/parts.cuh"

namespace grapnel::kernels {

inline constexpr int kMostThinRows = 8;

template <int kRows, int kColumns, class T, class Output>
GRAPNEL_KERNEL(kBlockThreads)
thin_product_kernel(int m, int n, int k, device::Global<const float> a, std::int64_t a_row,
                    device::Global<const T> b, std::int64_t b_column, Output output) {
  using namespace device;
  after_previous();
  const int first = static_cast<int>(element() / 32) * kColumns;
  if (first >= n) return;
  float sums[kRows][kColumns] = {};
  for (int at = 4 * static_cast<int>(lane()); at < k; at += 4 * 32) {
    Vector<float, 4> rows[kRows];
    GRAPNEL_UNROLL
    for (int i = 0; i < kRows; ++i) rows[i] = load_vector<4>(a, (i < m ? i : m - 1) * a_row + at);
    GRAPNEL_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const auto column = load_vector<4>(b, (first + j < n ? first + j : n - 1) * b_column + at);
      GRAPNEL_UNROLL
      for (int i = 0; i < kRows; ++i) {
        GRAPNEL_UNROLL
        for (int e = 0; e < 4; ++e) sums[i][j] += rows[i][e] * float_of(column[e]);
      }
    }
  }
  GRAPNEL_UNROLL
  for (int i = 0; i < kRows; ++i) {
    GRAPNEL_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      float sum = sums[i][j];
      for (unsigned distance = 16; distance > 0; distance /= 2)
        sum += shuffle_xor(0xffffffffu, sum, distance);
      if (lane() == 0 && i < m && first + j < n) output(0, i, first + j, Vector<float, 1>{{sum}});
    }
  }
}

/// m is at most kMostThinRows; k, the distance of rows of A if it has several, and that of columns of B are
/// multiples of 4, and both operands aligned for four. B is float or BFloat16.
template <class T, class Output>
void run_thin_product(const char* name, int m, int n, int k, const float* a, std::int64_t a_row, const T* b,
                      std::int64_t b_column, const Output& output) {
  const auto run = [&]<int kRows, int kColumns>() {
    launch_each(name, std::int64_t{32} * ((n + kColumns - 1) / kColumns),
                thin_product_kernel<kRows, kColumns, T, Output>, m, n, k, a, a_row, b, b_column, output);
  };
  const auto run_rows = [&]<int kRows>() {
    // Four columns share what is read of A, where there are warps enough for every multiprocessor.
    n >= 2048 ? run.template operator()<kRows, 4>() : run.template operator()<kRows, 1>();
  };
  if (m == 1)
    run_rows.template operator()<1>();
  else if (m <= 4)
    run_rows.template operator()<4>();
  else
    run_rows.template operator()<8>();
}

}  // namespace grapnel::kernels
