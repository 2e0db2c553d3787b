// Products with a few rows (a linear layer on one picture) or a few terms (its weight gradient): limited by
// the memory traffic of the one big matrix, so read or write that once, in order, and pack nothing.
#include <algorithm>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/gemm/gemm.h"

namespace grapnel::kernels {
namespace {

constexpr std::int64_t kThinTerms = 8;

/// B transposed (a linear layer's weight): every element of C is a dot product of contiguous vectors.
void by_dots(const MicroKernel& kernel, const Gemm& shape, float* c, const float* a, const float* b,
             const float* bias) {
  std::int64_t a_row = shape.a_row;
  if (shape.a_col != 1) {
    static thread_local Scratch<float> scratch;
    float* rows = scratch.get(static_cast<std::size_t>(shape.m * shape.k));
    for (std::int64_t i = 0; i < shape.m; ++i) {
      for (std::int64_t k = 0; k < shape.k; ++k) rows[i * shape.k + k] = a[i * shape.a_row + k * shape.a_col];
    }
    a = rows;
    a_row = shape.k;
  }
  const std::int64_t grain = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(shape.k, 1));
  parallel_for(shape.n, grain, [&](std::int64_t begin, std::int64_t end) {
    float sums[kThinRows];
    for (std::int64_t j = begin; j < end; ++j) {
      kernel.dot(shape.k, static_cast<int>(shape.m), a, a_row, b + j * shape.b_col, sums);
      for (std::int64_t i = 0; i < shape.m; ++i) c[i * shape.c_row + j] = sums[i] + (bias ? bias[j] : 0.0f);
    }
  });
}

/// B with contiguous rows: C's rows are sums of multiples of them, a stretch of C that stays in cache at a
/// time.
void by_rows(const MicroKernel& kernel, const Gemm& shape, float* c, const float* a, const float* b,
             const float* bias) {
  constexpr std::int64_t kStretch = 1024;
  const std::int64_t stretches = ceil_div(shape.n, kStretch);
  const std::int64_t groups = ceil_div(shape.m, kThinRows);
  parallel_for(groups * stretches, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; ++at) {
      const Range rows = part_of(shape.m, at / stretches, groups);
      const std::int64_t j = at % stretches * kStretch;
      const std::int64_t n = std::min(kStretch, shape.n - j);
      for (std::int64_t i = rows.begin; i < rows.end; ++i) {
        float* row = c + i * shape.c_row + j;
        if (bias) {
          std::copy(bias + j, bias + j + n, row);
        } else {
          std::fill(row, row + n, 0.0f);
        }
      }
      for (std::int64_t k = 0; k < shape.k; k += kThinTerms) {
        const std::int64_t terms = std::min(kThinTerms, shape.k - k);
        for (std::int64_t i = rows.begin; i < rows.end; ++i) {
          kernel.axpy(n, terms, c + i * shape.c_row + j, a + i * shape.a_row + k * shape.a_col, shape.a_col,
                      b + k * shape.b_row + j, shape.b_row);
        }
      }
    }
  });
}

}  // namespace

bool thin_gemm(const MicroKernel& kernel, const Gemm& shape, float* c, const float* a, const float* b,
               const float* bias) {
  const bool few_rows = shape.m <= kThinRows, few_terms = shape.k <= kThinTerms;
  if (few_rows && shape.b_row == 1) {
    by_dots(kernel, shape, c, a, b, bias);
    return true;
  }
  if ((few_rows || few_terms) && shape.b_col == 1) {
    by_rows(kernel, shape, c, a, b, bias);
    return true;
  }
  return false;
}

}  // namespace grapnel::kernels
