// The inner loops of the reductions, in vectors: included by portable.cpp, avx2.cpp and avx512.cpp. The order
// of summation is spelled out (kWide running totals, whatever the width of a vector), so all three give the
// same bits.
#pragma once

#include "grapnel/kernels/common/lanes.h"
#include "grapnel/kernels/reduce/reduce.h"

namespace grapnel::kernels {
namespace {

/// Running totals side by side: enough to hide the latency of an addition.
constexpr int kWide = 32, kNarrow = 16;
/// Rows per visit of a block of columns: the rows' cache lines are then read nearly in order.
constexpr std::int64_t kRows = 16;

struct Sum {
  static constexpr double kIdentity = 0;
  static double fold(double total, double x) { return total + x; }

  template <int kWidth>
  struct Totals {
    double values[kWidth];
    void load_from(const double* totals) {
      for (int j = 0; j < kWidth; ++j) values[j] = totals[j];
    }
    void store_to(double* totals) const {
      for (int j = 0; j < kWidth; ++j) totals[j] = values[j];
    }
    void fold(const float* x) {
      for (int j = 0; j < kWidth; ++j) values[j] += x[j];
    }
  };
};

struct Max {
  static constexpr double kIdentity = -__builtin_inf();
  static double fold(double total, double x) { return ((x > total) | (x != x)) ? x : total; }

  /// A maximum of floats is a float, so these need not be double.
  template <int kWidth>
  struct Totals {
    Floats vectors[kWidth / kLanes];
    void load_from(const double* totals) {
      for (int j = 0; j < kWidth; ++j) vectors[j / kLanes][j % kLanes] = static_cast<float>(totals[j]);
    }
    void store_to(double* totals) const {
      for (int j = 0; j < kWidth; ++j) totals[j] = vectors[j / kLanes][j % kLanes];
    }
    void fold(const float* x) {
      for (int v = 0; v < kWidth / kLanes; ++v) {
        Floats value;
        load(value, x + v * kLanes);
        vectors[v] = ((value > vectors[v]) | (value != value)) ? value : vectors[v];
      }
    }
  };
};

template <class Op>
double fold_run(std::int64_t count, const float* x, std::int64_t step, double total) {
  std::int64_t i = 0;
  if (step == 1 && count >= kWide) {
    double parts[kWide];
    for (double& part : parts) part = Op::kIdentity;
    typename Op::template Totals<kWide> totals;
    totals.load_from(parts);
    for (; i + kWide <= count; i += kWide) totals.fold(x + i);
    totals.store_to(parts);
    for (int width = kWide / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) parts[j] = Op::fold(parts[j], parts[j + width]);
    }
    total = Op::fold(total, parts[0]);
  }
  for (; i < count; ++i) total = Op::fold(total, x[i * step]);
  return total;
}

template <class Op, int kWidth>
inline void fold_block(std::int64_t rows, const float* x, std::int64_t row_stride, double* totals) {
  typename Op::template Totals<kWidth> running;
  running.load_from(totals);
  for (std::int64_t r = 0; r < rows; ++r) running.fold(x + r * row_stride);
  running.store_to(totals);
}

template <class Op>
void fold_rows(std::int64_t rows, const float* x, std::int64_t row_stride, std::int64_t width,
               double* totals) {
  for (; rows > 0; rows -= kRows, x += kRows * row_stride) {
    const std::int64_t visit = rows < kRows ? rows : kRows;
    std::int64_t c = 0;
    for (; c + kWide <= width; c += kWide) fold_block<Op, kWide>(visit, x + c, row_stride, totals + c);
    for (; c + kNarrow <= width; c += kNarrow) fold_block<Op, kNarrow>(visit, x + c, row_stride, totals + c);
    for (; c < width; ++c) {
      for (std::int64_t r = 0; r < visit; ++r) totals[c] = Op::fold(totals[c], x[r * row_stride + c]);
    }
  }
}

template <class Op>
constexpr ReduceLoops loops_of() {
  return {fold_run<Op>, fold_rows<Op>};
}

}  // namespace
}  // namespace grapnel::kernels
