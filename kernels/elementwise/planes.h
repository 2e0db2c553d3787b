// The inner loops of the elementwise family, for the compiler to vectorise: included by portable.cpp,
// avx2.cpp and avx512.cpp, each of which exports its copy.
#pragma once

#include <cstdint>

#include "grapnel/kernels/elementwise/elementwise.h"
#include "grapnel/kernels/elementwise/formulas.h"

namespace grapnel::kernels {
namespace {

template <class T>
void unary_plane(Unary op, const Plane<2>& plane, T* out, const T* x, double a, double b) {
  const std::int64_t out_step = plane.column_stride[0], x_step = plane.column_stride[1];
  with_unary<T>(op, a, b, [&](auto f) {
    for (std::int64_t row = 0; row < plane.rows;
         ++row, out += plane.row_stride[0], x += plane.row_stride[1]) {
      if (out_step == 1 && x_step == 1) {
        GRAPNEL_INDEPENDENT
        for (std::int64_t i = 0; i < plane.columns; ++i) out[i] = f(x[i]);
      } else {
        for (std::int64_t i = 0; i < plane.columns; ++i) out[i * out_step] = f(x[i * x_step]);
      }
    }
  });
}

template <class T>
void binary_plane(Binary op, const Plane<3>& plane, T* out, const T* x, const T* y) {
  const std::int64_t out_step = plane.column_stride[0], x_step = plane.column_stride[1],
                     y_step = plane.column_stride[2];
  with_binary<T>(op, [&](auto f) {
    for (std::int64_t row = 0; row < plane.rows; ++row) {
      if (out_step == 1 && x_step == 1 && y_step == 1) {
        GRAPNEL_INDEPENDENT
        for (std::int64_t i = 0; i < plane.columns; ++i) out[i] = f(x[i], y[i]);
      } else if (out_step == 1 && x_step == 1 && y_step == 0) {
        const T value = *y;
        GRAPNEL_INDEPENDENT
        for (std::int64_t i = 0; i < plane.columns; ++i) out[i] = f(x[i], value);
      } else if (out_step == 1 && x_step == 0 && y_step == 1) {
        const T value = *x;
        GRAPNEL_INDEPENDENT
        for (std::int64_t i = 0; i < plane.columns; ++i) out[i] = f(value, y[i]);
      } else {
        for (std::int64_t i = 0; i < plane.columns; ++i) out[i * out_step] = f(x[i * x_step], y[i * y_step]);
      }
      out += plane.row_stride[0];
      x += plane.row_stride[1];
      y += plane.row_stride[2];
    }
  });
}

}  // namespace
}  // namespace grapnel::kernels
