// Pooling as its definition says it: obviously right, for comparison and, for the maximum, for double.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels::reference {

inline bool inside(std::int64_t at, std::int64_t size) {
  return 0 <= at && at < size;
}

/// Calls body(y index, x index) for each output, where `taps` says which input won. Nothing for a window that
/// saw only padding.
template <class Body>
void for_each_winner(const Pool2d& s, const std::uint8_t* taps, const Body& body) {
  for (std::int64_t y = 0; y < s.n * s.oh * s.ow * s.c; ++y) {
    const std::int64_t c = y % s.c, ow = y / s.c % s.ow, oh = y / (s.c * s.ow) % s.oh,
                       n = y / (s.c * s.ow * s.oh);
    const std::int64_t h = oh * s.stride_h - s.pad_h + taps[y] / s.kernel_w * s.dil_h;
    const std::int64_t w = ow * s.stride_w - s.pad_w + taps[y] % s.kernel_w * s.dil_w;
    if (inside(h, s.h) && inside(w, s.w)) body(y, ((n * s.h + h) * s.w + w) * s.c + c);
  }
}

template <class T>
void max_pool2d(const Pool2d& s, T* y, std::uint8_t* taps, const T* x) {
  for (std::int64_t o = 0; o < s.n * s.oh * s.ow * s.c; ++o) {
    const std::int64_t c = o % s.c, ow = o / s.c % s.ow, oh = o / (s.c * s.ow) % s.oh,
                       n = o / (s.c * s.ow * s.oh);
    T best = -std::numeric_limits<T>::infinity();
    std::int64_t best_tap = -1;
    for (std::int64_t tap = 0; tap < s.kernel_h * s.kernel_w; ++tap) {
      const std::int64_t h = oh * s.stride_h - s.pad_h + tap / s.kernel_w * s.dil_h;
      const std::int64_t w = ow * s.stride_w - s.pad_w + tap % s.kernel_w * s.dil_w;
      if (!inside(h, s.h) || !inside(w, s.w)) continue;
      const T value = x[((n * s.h + h) * s.w + w) * s.c + c];
      if (best_tap < 0 || value > best || value != value) {
        best = value;
        best_tap = tap;
      }
    }
    y[o] = best;
    if (taps != nullptr) taps[o] = static_cast<std::uint8_t>(std::max<std::int64_t>(best_tap, 0));
  }
}

template <class T>
void max_pool2d_scatter(const Pool2d& s, T* dx, const T* dy, const std::uint8_t* taps) {
  std::fill_n(dx, s.n * s.h * s.w * s.c, T(0));
  for_each_winner(s, taps, [&](std::int64_t y, std::int64_t x) { dx[x] += dy[y]; });
}

template <class T>
void max_pool2d_gather(const Pool2d& s, T* y, const T* x, const std::uint8_t* taps) {
  std::fill_n(y, s.n * s.oh * s.ow * s.c, T(0));
  for_each_winner(s, taps, [&](std::int64_t to, std::int64_t from) { y[to] = x[from]; });
}

/// Calls body(y index, x index, weight) for every pair that average pooling connects.
template <class Body>
void for_each_average_tap(const Pool2d& s, const Body& body) {
  for (std::int64_t o = 0; o < s.n * s.oh * s.ow * s.c; ++o) {
    const std::int64_t c = o % s.c, ow = o / s.c % s.ow, oh = o / (s.c * s.ow) % s.oh,
                       n = o / (s.c * s.ow * s.oh);
    std::int64_t counted = 0;
    const auto for_each_pixel = [&](const auto& visit) {
      for (std::int64_t i = 0; i < s.kernel_h; ++i) {
        for (std::int64_t j = 0; j < s.kernel_w; ++j) {
          visit(oh * s.stride_h - s.pad_h + i, ow * s.stride_w - s.pad_w + j);
        }
      }
    };
    for_each_pixel([&](std::int64_t h, std::int64_t w) {
      const bool in_picture = inside(h, s.h) && inside(w, s.w);
      const bool in_padded = h < s.h + s.pad_h && w < s.w + s.pad_w;
      counted += s.count_include_pad ? in_padded : in_picture;
    });
    for_each_pixel([&](std::int64_t h, std::int64_t w) {
      if (!inside(h, s.h) || !inside(w, s.w)) return;
      body(o, ((n * s.h + h) * s.w + w) * s.c + c, 1 / static_cast<double>(counted));
    });
  }
}

/// The same for adaptive average pooling.
template <class Body>
void for_each_adaptive_tap(const Pool2d& s, const Body& body) {
  for (std::int64_t o = 0; o < s.n * s.oh * s.ow * s.c; ++o) {
    const std::int64_t c = o % s.c, ow = o / s.c % s.ow, oh = o / (s.c * s.ow) % s.oh,
                       n = o / (s.c * s.ow * s.oh);
    const std::int64_t h0 = oh * s.h / s.oh, h1 = ((oh + 1) * s.h + s.oh - 1) / s.oh;
    const std::int64_t w0 = ow * s.w / s.ow, w1 = ((ow + 1) * s.w + s.ow - 1) / s.ow;
    for (std::int64_t h = h0; h < h1; ++h) {
      for (std::int64_t w = w0; w < w1; ++w) {
        body(o, ((n * s.h + h) * s.w + w) * s.c + c, 1 / static_cast<double>((h1 - h0) * (w1 - w0)));
      }
    }
  }
}

template <class T>
void avg_pool2d(const Pool2d& s, T* y, const T* x) {
  std::fill_n(y, s.n * s.oh * s.ow * s.c, T(0));
  for_each_average_tap(s, [&](std::int64_t to, std::int64_t from, double weight) {
    y[to] += static_cast<T>(weight * x[from]);
  });
}

template <class T>
void avg_pool2d_adjoint(const Pool2d& s, T* dx, const T* dy) {
  std::fill_n(dx, s.n * s.h * s.w * s.c, T(0));
  for_each_average_tap(s, [&](std::int64_t to, std::int64_t from, double weight) {
    dx[from] += static_cast<T>(weight * dy[to]);
  });
}

template <class T>
void adaptive_avg_pool2d(const Pool2d& s, T* y, const T* x) {
  std::fill_n(y, s.n * s.oh * s.ow * s.c, T(0));
  for_each_adaptive_tap(s, [&](std::int64_t to, std::int64_t from, double weight) {
    y[to] += static_cast<T>(weight * x[from]);
  });
}

template <class T>
void adaptive_avg_pool2d_adjoint(const Pool2d& s, T* dx, const T* dy) {
  std::fill_n(dx, s.n * s.h * s.w * s.c, T(0));
  for_each_adaptive_tap(s, [&](std::int64_t to, std::int64_t from, double weight) {
    dx[from] += static_cast<T>(weight * dy[to]);
  });
}

}  // namespace grapnel::kernels::reference
