// A product with few rows, as linear layers have for few pictures: C (M,N) = A (M,K) B (K,N), both operands
// along k. It takes as long as B takes to be read, once: a warp makes some columns of all rows, its lanes
// share k, four at a time, and add up what they have in a fixed order. In every precision it is float32, but
// B may be bfloat16, or float16 times a power of two for each column, which is no coarser than TF32.
#pragma once

#include "grapnel/kernels/common/grid.cuh"
#include "grapnel/kernels/common/parts.cuh"
#include "grapnel/kernels/copy/convert.h"

namespace grapnel::kernels {

inline constexpr int kMostThinRows = 8;

/// Columns of B, `apart` elements from one to the next. Of Float16 each has a scale.
template <class T>
struct ThinColumns {
  const T* data;
  std::int64_t apart;
  const float* scales = nullptr;
};

template <int kRows, int kColumns, class T, class Output>
GRAPNEL_KERNEL(kBlockThreads)
thin_product_kernel(int m, int n, int k, device::Global<const float> a, std::int64_t a_row, ThinColumns<T> b,
                    Output output) {
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
      const auto column =
          load_vector<4>(Global<const T>(b.data), (first + j < n ? first + j : n - 1) * b.apart + at);
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
      if (lane() != 0 || i >= m || first + j >= n) continue;
      if constexpr (std::is_same_v<T, Float16>) sum *= load(Global<const float>(b.scales), first + j);
      output(0, i, first + j, Vector<float, 1>{{sum}});
    }
  }
}

/// m is at most kMostThinRows; k, the distance of rows of A if it has several, and that of columns of B are
/// multiples of 4, and both operands aligned for four. B is float, BFloat16 or Float16.
template <class T, class Output>
void run_thin_product(const char* name, int m, int n, int k, const float* a, std::int64_t a_row,
                      const ThinColumns<T>& b, const Output& output) {
  const auto run = [&]<int kRows, int kColumns>() {
    launch_each(name, std::int64_t{32} * ((n + kColumns - 1) / kColumns),
                thin_product_kernel<kRows, kColumns, T, Output>, m, n, k, a, a_row, b, output);
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

/// Columns of B, dense, each divided by the power of two of its largest finite element: as Float16 that one
/// is 1 to 2. Down to 2^-14 an element has the 11 bits of TF32, and below it is off by at most 2^-25.
GRAPNEL_KERNEL(kBlockThreads)
pack_halves_kernel(std::int64_t n, std::int64_t k, device::Global<Float16> halves,
                   device::Global<float> scales, device::Global<const float> b) {
  using namespace device;
  after_previous();
  const std::int64_t column = element() / 32;
  if (column >= n) return;
  const auto for_each_four = [&](const auto& use) {
    for (std::int64_t at = 4 * lane(); at < k; at += 4 * 32)
      use(column * k + at, load_vector<4>(b, column * k + at));
  };
  constexpr std::uint32_t kInfinity = 0x7f800000u;
  std::uint32_t power = 0x00800000u;  // as a float's exponent, the smallest that is normal
  for_each_four([&](std::int64_t, const Vector<float, 4>& values) {
    GRAPNEL_UNROLL
    for (int e = 0; e < 4; ++e) {
      const std::uint32_t exponent = bits_of(values[e]) & kInfinity;
      if (exponent != kInfinity && exponent > power) power = exponent;
    }
  });
  for (unsigned distance = 16; distance > 0; distance /= 2) {
    const std::uint32_t other = shuffle_xor(0xffffffffu, power, distance);
    if (other > power) power = other;
  }
  const float scale = float_of(power), inverse = 1 / scale;
  for_each_four([&](std::int64_t at, const Vector<float, 4>& values) {
    Vector<Float16, 4> result;
    GRAPNEL_UNROLL
    for (int e = 0; e < 4; ++e) result[e] = convert<Float16>(values[e] * inverse);
    store_vector(halves, at, result);
  });
  if (lane() == 0) store(scales, column, scale);
}

/// What n columns of k elements, a multiple of 4, take as halves, and behind them their scales.
inline std::size_t halves_size(std::int64_t n, std::int64_t k) {
  return static_cast<std::size_t>(n * k) * sizeof(Float16) + static_cast<std::size_t>(n) * sizeof(float);
}
inline void pack_halves(const char* name, std::int64_t n, std::int64_t k, void* packed, const float* b) {
  auto* halves = static_cast<Float16*>(packed);
  auto* scales = reinterpret_cast<float*>(halves + n * k);
  launch_each(name, 32 * n, pack_halves_kernel, n, k, halves, scales, b);
}
inline ThinColumns<Float16> packed_halves(const void* packed, std::int64_t n, std::int64_t k) {
  const auto* halves = static_cast<const Float16*>(packed);
  return {halves, k, reinterpret_cast<const float*>(halves + n * k)};
}

}  // namespace grapnel::kernels
