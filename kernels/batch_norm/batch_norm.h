// The four passes that batch normalisation, its backward and its eval form are made of, with what follows
// them, over dense (rows, channels) matrices. The formulas stand in kernels.h. Read next: rows.h.
#pragma once

#include <cstdint>

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// The loops over dense rows, compiled once per instruction set.
struct BatchNormRows {
  void (*finish)(std::int64_t rows, std::int64_t channels, float* y, const float* x,
                 const Epilogue<float>& epilogue);
  void (*blend)(std::int64_t rows, std::int64_t channels, float* dx, const float* dy, const float* x,
                const float* mean, const float* a, const float* b, const float* d);
  // Add to sum and squares the first two moments of x - pivot; x has `width` columns and rows `row_stride`
  // apart.
  void (*moments)(std::int64_t rows, std::int64_t row_stride, std::int64_t width, double* sum,
                  double* squares, const float* x, const float* pivot);
  // Add dy to sum and dy * (x - mean) to dot.
  void (*dots)(std::int64_t rows, std::int64_t row_stride, std::int64_t width, double* sum, double* dot,
               const float* dy, const float* x, const float* mean);
};

extern const BatchNormRows batch_norm_portable, batch_norm_avx2, batch_norm_avx512;

void fill_batch_norm(FloatKernels<float>& table, Isa isa);
void fill_batch_norm(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
