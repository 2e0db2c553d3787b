// Sum and maximum over any dimensions of any strided tensor. Read next: cpu.cpp, how a reduction is cut.
#pragma once

#include <cstdint>

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// The inner loops of one reduction, compiled once per instruction set. Everything folds in double.
struct ReduceLoops {
  /// total folded with x[0], x[step], ...
  double (*run)(std::int64_t count, const float* x, std::int64_t step, double total);
  /// totals[c] folded with x[r * row_stride + c] for all rows r.
  void (*columns)(std::int64_t rows, const float* x, std::int64_t row_stride, std::int64_t width,
                  double* totals);
};

struct ReduceRows {
  ReduceLoops sum, max;
};

extern const ReduceRows reduce_portable, reduce_avx2, reduce_avx512;

void fill_reduce(FloatKernels<float>& table, Isa isa);
void fill_reduce(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
