// The inner loops of batch normalisation, for the compiler to vectorise: included by portable.cpp, avx2.cpp
// and avx512.cpp.
#pragma once

#include "grapnel/kernels/batch_norm/batch_norm.h"
#include "grapnel/kernels/common/epilogue.h"
#include "grapnel/kernels/common/plane.h"

namespace grapnel::kernels {
namespace {

/// Columns whose sums stay in registers while a few rows go by.
constexpr std::int64_t kColumns = 16;
/// Rows per visit: the rows' cache lines are then read nearly in order.
constexpr std::int64_t kRows = 16;

/// y = the epilogue of x; the operands that lie like x begin where x does.
void finish(std::int64_t rows, std::int64_t channels, float* y, const float* x, const Epilogue<float>& e) {
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t at = row * channels;
    std::int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      Floats v;
      load(v, x + at + c);
      store(y + at + c, finished(v, e, at + c, c));
    }
    if (c < channels) {
      Floats v;
      load<false>(v, x + at + c, channels - c);
      store<false>(y + at + c, finished<false>(v, e, at + c, c, channels - c), channels - c);
    }
  }
}

void blend(std::int64_t rows, std::int64_t channels, float* dx, const float* dy, const float* x,
           const float* mean, const float* a, const float* b, const float* d) {
  for (std::int64_t row = 0; row < rows; ++row, dx += channels, dy += channels, x += channels) {
    GRAPNEL_INDEPENDENT
    for (std::int64_t c = 0; c < channels; ++c) dx[c] = a[c] * dy[c] + b[c] * (x[c] - mean[c]) + d[c];
  }
}

/// first[c] += sum over rows of terms(element, c).first, second[c] likewise, where element = row * row_stride
/// + c.
template <class Terms>
void two_sums(std::int64_t rows, std::int64_t row_stride, std::int64_t width, double* first, double* second,
              const Terms& terms) {
  for (std::int64_t row = 0; row < rows; row += kRows) {
    const std::int64_t row_end = row + kRows < rows ? row + kRows : rows;
    std::int64_t c = 0;
    for (; c + kColumns <= width; c += kColumns) {
      double u[kColumns], v[kColumns];
      for (int j = 0; j < kColumns; ++j) u[j] = first[c + j];
      for (int j = 0; j < kColumns; ++j) v[j] = second[c + j];
      for (std::int64_t r = row; r < row_end; ++r) {
        for (int j = 0; j < kColumns; ++j) terms(r * row_stride + c + j, c + j, u[j], v[j]);
      }
      for (int j = 0; j < kColumns; ++j) first[c + j] = u[j];
      for (int j = 0; j < kColumns; ++j) second[c + j] = v[j];
    }
    for (; c < width; ++c) {
      for (std::int64_t r = row; r < row_end; ++r) terms(r * row_stride + c, c, first[c], second[c]);
    }
  }
}

void moments(std::int64_t rows, std::int64_t row_stride, std::int64_t width, double* sum, double* squares,
             const float* x, const float* pivot) {
  two_sums(rows, row_stride, width, sum, squares, [=](std::int64_t i, std::int64_t c, double& u, double& v) {
    const double distance = static_cast<double>(x[i]) - pivot[c];
    u += distance;
    v += distance * distance;
  });
}

void dots(std::int64_t rows, std::int64_t row_stride, std::int64_t width, double* sum, double* dot,
          const float* dy, const float* x, const float* mean) {
  two_sums(rows, row_stride, width, sum, dot, [=](std::int64_t i, std::int64_t c, double& u, double& v) {
    const double gradient = dy[i];
    u += gradient;
    v += gradient * (static_cast<double>(x[i]) - mean[c]);
  });
}

}  // namespace
}  // namespace grapnel::kernels
