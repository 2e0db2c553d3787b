// The micro-kernels, written once over common/lanes.h and instantiated by portable.cpp, avx2.cpp and
// avx512.cpp. Included only there: everything is in an anonymous namespace, and nothing of the standard
// library is used, so that no code built for a wide instruction set can be linked in for an old machine.
#pragma once

#include <utility>  // integer sequences: types only, no code

#include "grapnel/kernels/common/epilogue.h"
#include "grapnel/kernels/gemm/microkernel.h"

namespace grapnel::kernels {
namespace {

inline Floats load(const float* p) {
  Floats v;
  load(v, p);
  return v;
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

template <int kRows, int kVecs, int kPanel>
[[gnu::noinline]] void multiply_tile(const Tile& t) {
  // By the time the sum is ready its place in memory should have arrived.
  for (int i = 0; i < kRows; ++i) {
    const float* c = t.c + i / kRun * t.c_run + i % kRun * t.c_row;
    for (int v = 0; v < kVecs; ++v) __builtin_prefetch(c + v * kLanes, 1, 2);
  }

  Floats acc[kRows][kVecs] = {};
  const float* b = t.b;
  const float* prefetch = t.prefetch;
  const std::int64_t row = t.a_row, row3 = 3 * row, row5 = 5 * row;
  for (std::int64_t g = 0; g < t.segments; ++g) {
    const float* run0 = t.a + t.a_offset[g];
    const float* run1 = run0 + t.a_run;
    for (std::int64_t k = t.depth; k > 0; --k) {
      Floats bv[kVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) bv[v] = load(b + v * kLanes);
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
  constexpr int kWidth = kVecs * kLanes;
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
      const int column = v * kLanes;
      if (init) acc[i][v] += load(init + column);
      if (t.epilogue) acc[i][v] = finished(acc[i][v], *t.epilogue, place + column, column);
      store(t.c + place + column, acc[i][v]);
    }
  }
}

/// Picks the instance for t.rows; a tail of columns that needs fewer vectors takes the narrower one.
template <int kRows, int kVecs, int kPanel>
void any_tile(const Tile& t) {
  if constexpr (kVecs > 1) {
    if (t.columns <= (kVecs - 1) * kLanes) return any_tile<kRows, kVecs - 1, kPanel>(t);
  }
  if constexpr (kRows > 1) {
    if (t.rows < kRows) return any_tile<kRows - 1, kVecs, kPanel>(t);
  }
  multiply_tile<kRows, kVecs, kPanel>(t);
}

template <int kRows>
void dot_rows(std::int64_t k, int rows, const float* a, std::int64_t a_row, const float* b, float* out) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return dot_rows<kRows - 1>(k, rows, a, a_row, b, out);
  }
  constexpr int kVecs = 4;  // independent sums, to hide the latency of an addition
  Floats acc[kRows][kVecs] = {};
  std::int64_t at = 0;
  for (; at + kVecs * kLanes <= k; at += kVecs * kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const Floats bv = load(b + at + v * kLanes);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) acc[i][v] += load(a + i * a_row + at + v * kLanes) * bv;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    float lane[kLanes];
    store(lane, (acc[i][0] + acc[i][1]) + (acc[i][2] + acc[i][3]));
    float sum = 0;
    for (int l = 0; l < kLanes; ++l) sum += lane[l];
    for (std::int64_t tail = at; tail < k; ++tail) sum += a[i * a_row + tail] * b[tail];
    out[i] = sum;
  }
}

void axpy_rows(std::int64_t n, std::int64_t depth, float* c, const float* a, std::int64_t a_col,
               const float* b, std::int64_t b_row) {
  constexpr int kVecs = 4;
  std::int64_t j = 0;
  for (; j + kVecs * kLanes <= n; j += kVecs * kLanes) {
    Floats acc[kVecs];
    for (int v = 0; v < kVecs; ++v) acc[v] = load(c + j + v * kLanes);
    for (std::int64_t k = 0; k < depth; ++k) {
      for (int v = 0; v < kVecs; ++v) acc[v] += a[k * a_col] * load(b + k * b_row + j + v * kLanes);
    }
    for (int v = 0; v < kVecs; ++v) store(c + j + v * kLanes, acc[v]);
  }
  for (; j < n; ++j) {
    for (std::int64_t k = 0; k < depth; ++k) c[j] += a[k * a_col] * b[k * b_row + j];
  }
}

/// Lanes of (a, b) whose number has bit `step` clear: a's own and, in the other places, b's from `step` lanes
/// below. With `upper`, the lanes left over, in the same manner.
template <int step, bool upper, int... lane>
inline Floats exchange(Floats a, Floats b, std::integer_sequence<int, lane...>) {
  constexpr int kCount = sizeof...(lane);
  return __builtin_shufflevector(
      a, b,
      (upper ? (lane & step ? kCount + lane : lane + step) : (lane & step ? kCount + lane - step : lane))...);
}

/// Exchanges off-diagonal blocks of step x step lanes, then does the same inside the blocks (J. O. Eklundh,
/// 1972).
template <int step>
inline void exchange_blocks(Floats* rows) {
  if constexpr (step > 0) {
    constexpr std::make_integer_sequence<int, kLanes> lanes;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i & step) continue;
      const Floats a = rows[i], b = rows[i + step];
      rows[i] = exchange<step, false>(a, b, lanes);
      rows[i + step] = exchange<step, true>(a, b, lanes);
    }
    exchange_blocks<step / 2>(rows);
  }
}

void transpose_block(const float* const* in, float* const* out) {
  Floats rows[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = load(in[i]);
  exchange_blocks<kLanes / 2>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(out[i], rows[i]);
}

template <int kRows, int kVecs>
constexpr MicroKernel make_microkernel() {
  constexpr int kPanel = kVecs * kLanes;
  return {kRows,     kPanel,         kLanes, any_tile<kRows, kVecs, kPanel>, dot_rows<kThinRows>,
          axpy_rows, transpose_block};
}

}  // namespace
}  // namespace grapnel::kernels
