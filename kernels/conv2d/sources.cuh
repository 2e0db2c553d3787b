// A convolution's operands as matrices, element by element where they lie: nothing is copied out first.
//
//   forward       C (pixels of y, k)   = patches of x (pixels of y, (r, s, c))    weights ((r, s, c), k)
//   input_grad    C (pixels of x, c)   = reaches of dy (pixels of x, (r, s, k))   weights ((r, s, k), c)
//   weight_grad   C (k, (r, s, c))     = dy (k, pixels of y)                      patches (pixels, (r, s, c))
//
// one product for each group. A Source is described in gemm/tiled.cuh.
#pragma once

#include "grapnel/kernels/conv2d/conv_shape.cuh"

namespace grapnel::kernels {

/// The pixel of channels-last x that output pixel (oh, ow) reads at tap (r, s); null outside.
GRAPNEL_DEVICE const float* read_pixel(const ConvShape& p, const float* image, int oh, int ow, int r, int s) {
  const int h = oh * p.stride_h - p.pad_h + r * p.dil_h, w = ow * p.stride_w - p.pad_w + s * p.dil_w;
  if (h < 0 || h >= p.h || w < 0 || w >= p.w) return nullptr;
  return image + (static_cast<std::int64_t>(h) * p.w + w) * p.c;
}

template <int width>
struct PatchesByPixel {
  static constexpr bool kAlongK = true;
  static constexpr int kWidth = width;
  struct Row {
    const float* image;  // null: no such pixel
    int oh, ow;
  };

  const float* data;
  ConvShape p;

  GRAPNEL_DEVICE void enter(int group) { data += group * p.c_group; }
  GRAPNEL_DEVICE Row row(int i) const {
    if (i >= p.n * p.oh * p.ow) return {nullptr, 0, 0};
    const Pixel at = pixel_of(i, p.oh, p.ow);
    return {data + static_cast<std::int64_t>(at.n) * p.h * p.w * p.c, at.h, at.w};
  }
  GRAPNEL_DEVICE const float* at(const Row& row, int k) const {
    const Tap tap = tap_of(k, p.s, p.c_group);
    const float* from = row.image ? read_pixel(p, row.image, row.oh, row.ow, tap.r, tap.s) : nullptr;
    return from ? from + tap.channel : nullptr;
  }
};

template <int width>
struct ReachesByPixel {
  static constexpr bool kAlongK = true;
  static constexpr int kWidth = width;
  struct Row {
    const float* image;  // null: no such pixel
    int h, w;            // padding included
  };

  const float* data;
  ConvShape p;

  GRAPNEL_DEVICE void enter(int group) { data += group * p.k_group; }
  GRAPNEL_DEVICE Row row(int i) const {
    if (i >= p.n * p.h * p.w) return {nullptr, 0, 0};
    const Pixel at = pixel_of(i, p.h, p.w);
    return {data + static_cast<std::int64_t>(at.n) * p.oh * p.ow * p.k, at.h + p.pad_h, at.w + p.pad_w};
  }
  GRAPNEL_DEVICE const float* at(const Row& row, int k) const {
    const Tap tap = tap_of(k, p.s, p.k_group);
    const int h = row.h - tap.r * p.dil_h, w = row.w - tap.s * p.dil_w;
    if (!row.image || h < 0 || w < 0 || h % p.stride_h != 0 || w % p.stride_w != 0) return nullptr;
    const int oh = h / p.stride_h, ow = w / p.stride_w;
    if (oh >= p.oh || ow >= p.ow) return nullptr;
    return row.image + (static_cast<std::int64_t>(oh) * p.ow + ow) * p.k + tap.channel;
  }
};

/// Packed weights [group][(r, s, channel in)][channel out].
template <int width>
struct Weights {
  static constexpr bool kAlongK = false;
  static constexpr int kWidth = width;
  using Row = int;

  const float* data;
  int depth, columns;

  GRAPNEL_DEVICE void enter(int group) { data += static_cast<std::int64_t>(group) * depth * columns; }
  GRAPNEL_DEVICE Row row(int i) const { return i < columns ? i : -1; }
  GRAPNEL_DEVICE const float* at(Row column, int k) const {
    return column < 0 ? nullptr : data + static_cast<std::int64_t>(k) * columns + column;
  }
};

/// dy by output channel, along pixels.
template <int width>
struct GradientsByChannel {
  static constexpr bool kAlongK = false;
  static constexpr int kWidth = width;
  using Row = int;

  const float* data;
  ConvShape p;

  GRAPNEL_DEVICE void enter(int group) { data += group * p.k_group; }
  GRAPNEL_DEVICE Row row(int i) const { return i < p.k_group ? i : -1; }
  GRAPNEL_DEVICE const float* at(Row channel, int pixel) const {
    return channel < 0 ? nullptr : data + static_cast<std::int64_t>(pixel) * p.k + channel;
  }
};

/// Patches of x by (r, s, c), along output pixels.
template <int width>
struct PatchesByTap {
  static constexpr bool kAlongK = false;
  static constexpr int kWidth = width;
  using Row = Tap;  // r is -1: no such tap

  const float* data;
  ConvShape p;

  GRAPNEL_DEVICE void enter(int group) { data += group * p.c_group; }
  GRAPNEL_DEVICE Row row(int i) const {
    return i < p.r * p.s * p.c_group ? tap_of(i, p.s, p.c_group) : Tap{-1, 0, 0};
  }
  GRAPNEL_DEVICE const float* at(const Row& tap, int pixel) const {
    if (tap.r < 0) return nullptr;
    const Pixel at = pixel_of(pixel, p.oh, p.ow);
    const float* from =
        read_pixel(p, data + static_cast<std::int64_t>(at.n) * p.h * p.w * p.c, at.h, at.w, tap.r, tap.s);
    return from ? from + tap.channel : nullptr;
  }
};

}  // namespace grapnel::kernels
