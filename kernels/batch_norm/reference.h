// The passes of batch normalisation as their formulas say them: obviously right, for comparison and for
// double.
#pragma once

#include <cstdint>

#include "grapnel/kernels/common/finish.h"

namespace grapnel::kernels::reference {

template <class T>
void channel_moments(std::int64_t rows, std::int64_t channels, T* mean, T* variance, const T* x) {
  for (std::int64_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (std::int64_t r = 0; r < rows; ++r) sum += x[r * channels + c];
    const double m = sum / static_cast<double>(rows);
    for (std::int64_t r = 0; r < rows; ++r) squares += (x[r * channels + c] - m) * (x[r * channels + c] - m);
    mean[c] = static_cast<T>(m);
    variance[c] = static_cast<T>(squares / static_cast<double>(rows));
  }
}

template <class T>
void channel_epilogue(std::int64_t rows, std::int64_t channels, T* y, const T* x, const Epilogue<T>& e) {
  for (std::int64_t i = 0; i < rows * channels; ++i) {
    y[i] = finished_value(x[i], e, i, i % channels);
  }
}

template <class T>
void channel_dots(std::int64_t rows, std::int64_t channels, T* sum_dy, T* dot, const T* dy, const T* x,
                  const T* mean) {
  for (std::int64_t c = 0; c < channels; ++c) {
    double sum = 0, product = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      const double gradient = dy[r * channels + c];
      sum += gradient;
      product += gradient * (static_cast<double>(x[r * channels + c]) - mean[c]);
    }
    sum_dy[c] = static_cast<T>(sum);
    dot[c] = static_cast<T>(product);
  }
}

template <class T>
void channel_blend(std::int64_t rows, std::int64_t channels, T* dx, const T* dy, const T* x, const T* mean,
                   const T* a, const T* b, const T* d) {
  for (std::int64_t i = 0; i < rows * channels; ++i) {
    const std::int64_t c = i % channels;
    dx[i] = a[c] * dy[i] + b[c] * (x[i] - mean[c]) + d[c];
  }
}

}  // namespace grapnel::kernels::reference
