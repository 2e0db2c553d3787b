// The micro-kernels, written once over a compiler vector type and instantiated by portable.cpp, avx2.cpp and
// avx512.cpp. Included only there: everything is in an anonymous namespace, and nothing of the standard
// library is used, so that no code built for a wide instruction set can be linked in for an old machine.
#pragma once

#include <utility>  // integer sequences: types only, no code

#include "grapnel/kernels/common/epilogue.h"
#include "grapnel/kernels/gemm/microkernel.h"

namespace grapnel::kernels {
namespace {

template <class Vec>
constexpr int kLanesOf = sizeof(Vec) / sizeof(float);

template <class Vec>
inline Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class Vec>
inline void store(float* p, Vec v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

/// Adds init, applies the epilogue and writes a tile of which only some columns exist; `sums` are its rows of
/// `width` floats.
[[gnu::noinline]] void store_partial(const Tile& t, const float* sums, int width) {
  for (int i = 0; i < t.rows; ++i) {
    const int run = i / kRun, in_run = i % kRun;
    const std::int64_t place = run * t.c_run + in_run * t.c_row;
    const float* init = t.init ? t.init + run * t.init_run + in_run * t.init_row : nullptr;
    for (int j = 0; j < t.columns; j += kLanes) {
      const int count = t.columns - j < kLanes ? t.columns - j : kLanes;
      Floats sum, start{};
      load<false>(sum, sums + i * width + j, count);
      if (init) load<false>(start, init + j, count);
      sum += start;
      if (t.epilogue) sum = finished<false>(sum, *t.epilogue, place + j, j, count);
      store<false>(t.c + place + j, sum, count);
    }
  }
}

template <class Vec, int kRows, int kVecs, int kPanel>
[[gnu::noinline]] void multiply_tile(const Tile& t) {
  // By the time the sum is ready its place in memory should have arrived.
  for (int i = 0; i < kRows; ++i) {
    const float* c = t.c + i / kRun * t.c_run + i % kRun * t.c_row;
    for (int v = 0; v < kVecs; ++v) __builtin_prefetch(c + v * kLanesOf<Vec>, 1, 2);
  }

  Vec acc[kRows][kVecs] = {};
  const float* b = t.b;
  const float* prefetch = t.prefetch;
  const std::int64_t row = t.a_row, row3 = 3 * row, row5 = 5 * row;
  for (std::int64_t g = 0; g < t.segments; ++g) {
    const float* run0 = t.a + t.a_offset[g];
    const float* run1 = run0 + t.a_run;
    for (std::int64_t k = t.depth; k > 0; --k) {
      Vec bv[kVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) bv[v] = load<Vec>(b + v * kLanesOf<Vec>);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const float* run = i < kRun ? run0 : run1;
        const std::int64_t reach[kRun] = {0, row, 2 * row, row3, 4 * row, row5, 2 * row3};
        const float a = run[reach[i % kRun]];
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) acc[i][v] += a * bv[v];
      }
      __builtin_prefetch(prefetch, 0, 2);
      prefetch += t.prefetch_step;
      run0 += t.a_col;
      run1 += t.a_col;
      b += kPanel;
    }
  }
  constexpr int kWidth = kVecs * kLanesOf<Vec>;
  if (t.columns < kWidth) {
    float sums[kRows][kWidth];
    __builtin_memcpy(sums, acc, sizeof(sums));
    return store_partial(t, sums[0], kWidth);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    const int run = i / kRun, in_run = i % kRun;
    const std::int64_t place = run * t.c_run + in_run * t.c_row;
    const float* init = t.init ? t.init + run * t.init_run + in_run * t.init_row : nullptr;
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const int column = v * kLanesOf<Vec>;
      if (init) acc[i][v] += load<Vec>(init + column);
      if (t.epilogue) acc[i][v] = finished(acc[i][v], *t.epilogue, place + column, column);
      store(t.c + place + column, acc[i][v]);
    }
  }
}

/// Picks the instance for t.rows; a tail of columns that needs fewer vectors takes the narrower one.
template <class Vec, int kRows, int kVecs, int kPanel>
void any_tile(const Tile& t) {
  if constexpr (kVecs > 1) {
    if (t.columns <= (kVecs - 1) * kLanesOf<Vec>) return any_tile<Vec, kRows, kVecs - 1, kPanel>(t);
  }
  if constexpr (kRows > 1) {
    if (t.rows < kRows) return any_tile<Vec, kRows - 1, kVecs, kPanel>(t);
  }
  multiply_tile<Vec, kRows, kVecs, kPanel>(t);
}

template <class Vec, int kRows>
void dot_rows(std::int64_t k, int rows, const float* a, std::int64_t a_row, const float* b, float* out) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return dot_rows<Vec, kRows - 1>(k, rows, a, a_row, b, out);
  }
  constexpr int kVecs = 4;  // independent sums, to hide the latency of an addition
  Vec acc[kRows][kVecs] = {};
  std::int64_t at = 0;
  for (; at + kVecs * kLanesOf<Vec> <= k; at += kVecs * kLanesOf<Vec>) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const Vec bv = load<Vec>(b + at + v * kLanesOf<Vec>);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) acc[i][v] += load<Vec>(a + i * a_row + at + v * kLanesOf<Vec>) * bv;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    float lane[kLanesOf<Vec>];
    store(lane, (acc[i][0] + acc[i][1]) + (acc[i][2] + acc[i][3]));
    float sum = 0;
    for (int l = 0; l < kLanesOf<Vec>; ++l) sum += lane[l];
    for (std::int64_t tail = at; tail < k; ++tail) sum += a[i * a_row + tail] * b[tail];
    out[i] = sum;
  }
}

template <class Vec>
void axpy_rows(std::int64_t n, std::int64_t depth, float* c, const float* a, std::int64_t a_col,
               const float* b, std::int64_t b_row) {
  constexpr int kVecs = 4;
  std::int64_t j = 0;
  for (; j + kVecs * kLanesOf<Vec> <= n; j += kVecs * kLanesOf<Vec>) {
    Vec acc[kVecs];
    for (int v = 0; v < kVecs; ++v) acc[v] = load<Vec>(c + j + v * kLanesOf<Vec>);
    for (std::int64_t k = 0; k < depth; ++k) {
      for (int v = 0; v < kVecs; ++v)
        acc[v] += a[k * a_col] * load<Vec>(b + k * b_row + j + v * kLanesOf<Vec>);
    }
    for (int v = 0; v < kVecs; ++v) store(c + j + v * kLanesOf<Vec>, acc[v]);
  }
  for (; j < n; ++j) {
    for (std::int64_t k = 0; k < depth; ++k) c[j] += a[k * a_col] * b[k * b_row + j];
  }
}

/// Lanes of (a, b) whose number has bit `step` clear: a's own and, in the other places, b's from `step` lanes
/// below. With `upper`, the lanes left over, in the same manner.
template <int step, bool upper, class Vec, int... lane>
inline Vec exchange(Vec a, Vec b, std::integer_sequence<int, lane...>) {
  constexpr int kCount = sizeof...(lane);
  return __builtin_shufflevector(
      a, b,
      (upper ? (lane & step ? kCount + lane : lane + step) : (lane & step ? kCount + lane - step : lane))...);
}

/// Exchanges off-diagonal blocks of step x step lanes, then does the same inside the blocks (J. O. Eklundh,
/// 1972).
template <int step, class Vec>
inline void exchange_blocks(Vec* rows) {
  if constexpr (step > 0) {
    constexpr std::make_integer_sequence<int, kLanesOf<Vec>> lanes;
#pragma GCC unroll 16
    for (int i = 0; i < kLanesOf<Vec>; ++i) {
      if (i & step) continue;
      const Vec a = rows[i], b = rows[i + step];
      rows[i] = exchange<step, false>(a, b, lanes);
      rows[i + step] = exchange<step, true>(a, b, lanes);
    }
    exchange_blocks<step / 2>(rows);
  }
}

template <class Vec>
void transpose_block(const float* const* in, float* const* out) {
  Vec rows[kLanesOf<Vec>];
#pragma GCC unroll 16
  for (int i = 0; i < kLanesOf<Vec>; ++i) rows[i] = load<Vec>(in[i]);
  exchange_blocks<kLanesOf<Vec> / 2>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < kLanesOf<Vec>; ++i) store(out[i], rows[i]);
}

template <class Vec, int kRows, int kVecs>
constexpr MicroKernel make_microkernel() {
  constexpr int kPanel = kVecs * kLanesOf<Vec>;
  return {kRows,
          kPanel,
          kLanesOf<Vec>,
          any_tile<Vec, kRows, kVecs, kPanel>,
          dot_rows<Vec, kThinRows>,
          axpy_rows<Vec>,
          transpose_block<Vec>};
}

}  // namespace
}  // namespace grapnel::kernels
