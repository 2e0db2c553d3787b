// A convolution's operands as matrices, piece by piece where they lie: no matrix of patches is written.
//
//   forward, and what else is one (phases.cuh)
//                 C (pixels of y, k)   = patches of x (pixels of y, (r, s, c))    weights ((r, s, c), k)
//   weight_grad   C (k, (r, s, c))     = dy (k, pixels of y)                      patches (pixels, (r, s, c))
//
// one product for each group. A Source is described in gemm/tiled.cuh.
#pragma once

#include "grapnel/kernels/conv2d/conv_shape.cuh"

namespace grapnel::kernels {

/// Patches of channels-last x. Along k they are rows of pixels of y by (r, s, c), else the other way around.
template <class T, bool along_k, int width>
struct Patches {
  static constexpr bool kAlongK = along_k, kRounded = false;
  static constexpr int kWidth = width;
  using Element = T;
  /// What a pixel of y, or a tap's channel, adds to where an element lies.
  struct Share {
    std::int64_t at;
    int h, w;  // beyond all pictures: nothing lies there
  };
  using Row = Share;
  using Place = Share;

  const T* data;
  ConvShape p;
  Divisor channels;  // of a group, as they lie
  int pixel;         // elements from one to the next

  GRAPNEL_DEVICE void enter(int group) { data += group * channels; }
  GRAPNEL_DEVICE Row row(int i) const { return along_k ? of_pixel(i) : of_tap(i); }
  GRAPNEL_DEVICE Place place(int k) const { return along_k ? of_tap(k) : of_pixel(k); }
  GRAPNEL_DEVICE const T* at(const Row& row, const Place& place) const {
    const int h = row.h + place.h, w = row.w + place.w;
    return h >= 0 && h < p.h && w >= 0 && w < p.w ? data + (row.at + place.at) : nullptr;
  }

 private:
  static constexpr Share kNowhere{0, -(1 << 30), 0};

  GRAPNEL_DEVICE Share of_pixel(int i) const {
    if (i >= p.n * p.oh * p.ow) return kNowhere;
    const Pixel y = pixel_of(i, p.oh, p.ow);
    const int h = y.h * p.stride_h - p.pad_h, w = y.w * p.stride_w - p.pad_w;
    return {((static_cast<std::int64_t>(y.n) * p.h + h) * p.w + w) * pixel, h, w};
  }
  GRAPNEL_DEVICE Share of_tap(int i) const {
    if (i >= p.r * p.s * channels) return kNowhere;
    const Tap tap = tap_of(i, p.s, channels);
    const int h = tap.r * p.dil_h, w = tap.s * p.dil_w;
    return {(static_cast<std::int64_t>(h) * p.w + w) * pixel + tap.channel, h, w};
  }
};

}  // namespace grapnel::kernels
