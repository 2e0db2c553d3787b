// The passes of batch normalisation as their formulas say them: obviously right, for comparison and for
// double.
#pragma once

#include <cmath>
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

template <class T>
void channel_affine(std::int64_t channels, double eps, T* scale, T* shift, const T* mean, const T* variance,
                    const T* weight, const T* bias) {
  for (std::int64_t c = 0; c < channels; ++c) {
    const double s = (weight ? weight[c] : T{1}) / std::sqrt(static_cast<double>(variance[c]) + eps);
    scale[c] = static_cast<T>(s);
    shift[c] = static_cast<T>((bias ? bias[c] : T{0}) - s * mean[c]);
  }
}

template <class T>
void channel_factors(std::int64_t rows, std::int64_t channels, double eps, bool training, T* dweight, T* a,
                     T* b, T* d, const T* sum_dy, const T* dot, const T* variance, const T* weight) {
  for (std::int64_t c = 0; c < channels; ++c) {
    const double s = 1 / std::sqrt(static_cast<double>(variance[c]) + eps);
    const double scale = s * (weight ? weight[c] : T{1});
    const double share = training ? scale / static_cast<double>(rows) : 0;
    dweight[c] = static_cast<T>(s * dot[c]);
    a[c] = static_cast<T>(scale);
    b[c] = static_cast<T>(-share * s * s * dot[c]);
    d[c] = static_cast<T>(-share * sum_dy[c]);
  }
}

template <class T>
void channel_average(std::int64_t channels, double momentum, double factor, T* running, const T* batch) {
  for (std::int64_t c = 0; c < channels; ++c)
    running[c] = static_cast<T>((1 - momentum) * running[c] + momentum * factor * batch[c]);
}

}  // namespace grapnel::kernels::reference
