// Interpolation as its definition says it, pixel by pixel: obviously right, for comparison.
#pragma once

#include <algorithm>
#include <cstdint>

#include "grapnel/kernels/interpolate/coordinates.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels::reference {

/// Calls body(y index, x index, weight) for every pair that is connected.
template <class Body>
void for_each_interpolation_tap(const Interpolate& s, const Body& body) {
  const auto x_at = [&](std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c) {
    return ((n * s.h + h) * s.w + w) * s.c + c;
  };
  std::int64_t y = 0;
  for (std::int64_t n = 0; n < s.n; ++n) {
    for (std::int64_t oh = 0; oh < s.oh; ++oh) {
      for (std::int64_t ow = 0; ow < s.ow; ++ow) {
        const double h = source_coordinate(oh, s.h, s.oh, s.align_corners);
        const double w = source_coordinate(ow, s.w, s.ow, s.align_corners);
        const auto h0 = static_cast<std::int64_t>(h), w0 = static_cast<std::int64_t>(w);
        const std::int64_t h1 = std::min(h0 + 1, s.h - 1), w1 = std::min(w0 + 1, s.w - 1);
        const double down = h - static_cast<double>(h0), right = w - static_cast<double>(w0);
        for (std::int64_t c = 0; c < s.c; ++c, ++y) {
          if (!s.bilinear) {
            body(y, x_at(n, nearest_source(oh, s.h, s.oh), nearest_source(ow, s.w, s.ow), c), 1.0);
            continue;
          }
          body(y, x_at(n, h0, w0, c), (1 - down) * (1 - right));
          body(y, x_at(n, h0, w1, c), (1 - down) * right);
          body(y, x_at(n, h1, w0, c), down * (1 - right));
          body(y, x_at(n, h1, w1, c), down * right);
        }
      }
    }
  }
}

template <class T>
void interpolate(const Interpolate& s, T* y, const T* x) {
  std::fill_n(y, s.n * s.oh * s.ow * s.c, T(0));
  for_each_interpolation_tap(s, [&](std::int64_t to, std::int64_t from, double weight) {
    y[to] += static_cast<T>(weight * x[from]);
  });
}

template <class T>
void interpolate_adjoint(const Interpolate& s, T* dx, const T* dy) {
  std::fill_n(dx, s.n * s.h * s.w * s.c, T(0));
  for_each_interpolation_tap(s, [&](std::int64_t to, std::int64_t from, double weight) {
    dx[from] += static_cast<T>(weight * dy[to]);
  });
}

}  // namespace grapnel::kernels::reference
