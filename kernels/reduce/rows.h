// The inner loops of the reductions, for the compiler to vectorise: included by portable.cpp, avx2.cpp and
// avx512.cpp. The order of summation is spelled out (kLanes running totals), so all three give the same bits.
#pragma once

#include "grapnel/kernels/reduce/reduce.h"

namespace grapnel::kernels {
namespace {

constexpr int kLanes = 16;
/// Rows per visit of a block of columns: the rows' cache lines are then read nearly in order.
constexpr std::int64_t kRows = 16;

struct Sum {
  static constexpr double kIdentity = 0;
  static double fold(double total, double x) { return total + x; }
};

struct Max {
  static constexpr double kIdentity = -__builtin_inf();
  static double fold(double total, double x) { return (x > total) | (x != x) ? x : total; }
};

template <class Op>
double fold_run(std::int64_t count, const float* x, std::int64_t step, double total) {
  std::int64_t i = 0;
  if (step == 1 && count >= kLanes) {
    double lanes[kLanes];
    for (int j = 0; j < kLanes; ++j) lanes[j] = Op::kIdentity;
    for (; i + kLanes <= count; i += kLanes) {
      for (int j = 0; j < kLanes; ++j) lanes[j] = Op::fold(lanes[j], x[i + j]);
    }
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) lanes[j] = Op::fold(lanes[j], lanes[j + width]);
    }
    total = Op::fold(total, lanes[0]);
  }
  for (; i < count; ++i) total = Op::fold(total, x[i * step]);
  return total;
}

template <class Op>
void fold_columns_of(std::int64_t rows, const float* x, std::int64_t row_stride, std::int64_t width,
                     double* totals) {
  for (std::int64_t row = 0; row < rows; row += kRows) {
    const std::int64_t row_end = row + kRows < rows ? row + kRows : rows;
    std::int64_t c = 0;
    for (; c + kLanes <= width; c += kLanes) {
      double lanes[kLanes];
      for (int j = 0; j < kLanes; ++j) lanes[j] = totals[c + j];
      for (std::int64_t r = row; r < row_end; ++r) {
        for (int j = 0; j < kLanes; ++j) lanes[j] = Op::fold(lanes[j], x[r * row_stride + c + j]);
      }
      for (int j = 0; j < kLanes; ++j) totals[c + j] = lanes[j];
    }
    for (; c < width; ++c) {
      for (std::int64_t r = row; r < row_end; ++r) totals[c] = Op::fold(totals[c], x[r * row_stride + c]);
    }
  }
}

template <class Op>
constexpr ReduceLoops loops_of() {
  return {fold_run<Op>, fold_columns_of<Op>};
}

}  // namespace
}  // namespace grapnel::kernels
