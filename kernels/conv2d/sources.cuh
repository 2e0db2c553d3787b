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
  /// A pixel of y: where its first tap reads, the first channel.
  struct Corner {
    const T* from;
    int h, w;
  };
  /// A tap's channel: how far from there it lies.
  struct Reach {
    int elements, h, w;
  };
  using Row = std::conditional_t<along_k, Corner, Reach>;
  using Place = std::conditional_t<along_k, Reach, Corner>;

  const T* data;
  ConvShape p;
  Divisor channels;  // of a group, as they lie
  int pixel;         // elements from one to the next

  GRAPNEL_DEVICE void enter(int group) { data += group * channels; }
  GRAPNEL_DEVICE Row row(int i) const {
    if constexpr (along_k)
      return corner(i);
    else
      return reach(i);
  }
  GRAPNEL_DEVICE Place place(int k) const {
    if constexpr (along_k)
      return reach(k);
    else
      return corner(k);
  }
  GRAPNEL_DEVICE bool holds(const Row& row, const Place& place) const {
    return static_cast<unsigned>(row.h + place.h) < static_cast<unsigned>(p.h) &&
           static_cast<unsigned>(row.w + place.w) < static_cast<unsigned>(p.w);
  }
  GRAPNEL_DEVICE const T* at(const Row& row, const Place& place) const {
    if constexpr (along_k)
      return row.from + place.elements;
    else
      return place.from + row.elements;
  }

 private:
  /// Of a row behind the last pixel outside of all pictures.
  GRAPNEL_DEVICE Corner corner(int i) const {
    const Pixel y = pixel_of(i, p.oh, p.ow);
    const int h = y.h * p.stride_h - p.pad_h, w = y.w * p.stride_w - p.pad_w;
    return {data + ((static_cast<std::int64_t>(y.n) * p.h + h) * p.w + w) * pixel,
            along_k && i >= p.n * p.oh * p.ow ? -(1 << 30) : h, w};
  }
  /// Behind the last tap some that nobody looks at.
  GRAPNEL_DEVICE Reach reach(int i) const {
    const Tap tap = tap_of(i, p.s, channels);
    const int h = tap.r * p.dil_h, w = tap.s * p.dil_w;
    return {(h * p.w + w) * pixel + tap.channel, h, w};
  }
};

}  // namespace grapnel::kernels
