// Weight gradients on Hopper in TF32: dw = dy x, summed over pixels, by the product of gemm/hopper.cuh, whose
// operands lie along what is summed there. So both are laid out anew, a channel's pixels behind one another:
//
//   flat pixel (image, i, j) is (image * rows + i) * columns + j, and
//   dw(k, c, r, s) = sum over flat pixels f of dy_flat(k, f) * x_flat(c, f + shift(r, s)).
//
// `rows` and `columns` are those of y and as many more as keep a shifted pixel from reaching a neighbour that
// is not zero; dy_flat is zero there. Zeros around a picture serve its neighbour, too. With a stride,
// x_flat has one plane for each of the phases that taps read, in which they are a stride apart no more.
// (A tap reads some pixels that are multiplied by those zeros: an infinity among them makes NaN there, too.)
#pragma once

#include "grapnel/kernels/conv2d/hopper.cuh"

namespace grapnel::kernels {

/// One axis of a convolution: tap r reads position (o + shift(r)) * stride + phase of plane(r), for output o,
/// counted from first(plane).
struct FlatAxis {
  int in, out, kernel, stride, pad, dil;

  static int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

  /// Distance of the last tap from the first one, in outputs.
  int span() const { return floor_div((kernel - 1) * dil - pad, stride) - lowest(); }
  int lowest() const { return floor_div(-pad, stride); }
  int planes() const { return stride < kernel ? stride : kernel; }
  /// The input position of a plane's first pixel.
  int first(int plane) const {
    return lowest() * stride + (plane * dil - pad - floor_div(plane * dil - pad, stride) * stride);
  }
  /// Outputs, and zeros behind them. What lies before a picture is zero, and so is what lies behind the one
  /// before: of both, the smaller number is saved, though no output.
  int length() const {
    const int before = lowest() < 0 ? -lowest() : 0;
    const int behind = out + span() - (floor_div(in + stride - 1, stride) - lowest());
    return out + span() - std::clamp(std::min(before, behind), 0, span());
  }
};

/// What the kernels know of it.
struct FlatShape {
  Divisor rows, columns, s, stride_h, stride_w, planes_w;
  int lowest_h, lowest_w, pad_h, pad_w, dil_h, dil_w;
  Divisor padded;  // channels of x, up to whole pieces
  int channels;
};

/// Rows are taps, each with its channels up to whole pieces of rows; steps are flat pixels.
struct ShiftedRows {
  static constexpr device::Major kMajor = device::Major::k;
  device::TensorMap map;  // (flat pixel, plane and channel, part)
  FlatShape p;
  int piece, pieces;  // rows that are fetched together, and how often for a tile

  GRAPNEL_DEVICE void load(device::Shared<float> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    for (int i = 0; i < pieces; ++i) {
      const Tap tap = tap_of(row + i * piece, p.s, p.padded);
      const int h = tap.r * p.dil_h - p.pad_h - p.lowest_h * p.stride_h,
                w = tap.s * p.dil_w - p.pad_w - p.lowest_w * p.stride_w;
      const int plane = tap.r % p.stride_h * p.planes_w + tap.s % p.stride_w;
      device::load_tile(to + i * piece * kHopperDepth<AsTf32>, map,
                        std::array{step * kHopperDepth<AsTf32> + h / p.stride_h * p.columns + w / p.stride_w,
                                   plane * p.channels + tap.channel, part},
                        full);
    }
  }
};

inline constexpr int kFlatPixels = 64, kFlatChannels = 32;

/// Dense pictures (N, H, W, C) as one plane, flat: pixel (i, j) is the one at (i, j) * stride + first.
struct FlatPlane {
  Divisor rows, columns;  // flat
  int h, w, c, stride_h, stride_w, first_h, first_w;
};

/// flat (C, pitch) = pictures, zeros where they have no pixel; through shared memory, channels behind one
/// another on one side, pixels on the other.
template <class T>
GRAPNEL_KERNEL(kBlockThreads)
lay_flat_kernel(FlatPlane p, std::int64_t pixels, std::int64_t pitch, device::Global<float> flat,
                device::Global<const T> pictures) {
  using namespace device;
  after_previous();
  constexpr int kPitch = kFlatChannels + 1, kWarps = static_cast<int>(kBlockThreads) / 32;
  const Shared<float> tile = shared_memory<float>();
  const std::int64_t first = std::int64_t{block().x} * kFlatPixels;
  const int first_channel = static_cast<int>(block().y) * kFlatChannels;
  const int warp = static_cast<int>(thread().x) / 32, mine = static_cast<int>(lane());
  for (int i = warp; i < kFlatPixels; i += kWarps) {
    float value = 0;
    if (first + i < pixels && first_channel + mine < p.c) {
      const Pixel at = pixel_of(static_cast<int>(first + i), p.rows, p.columns);
      const int h = at.h * p.stride_h + p.first_h, w = at.w * p.stride_w + p.first_w;
      if (h >= 0 && h < p.h && w >= 0 && w < p.w)
        value =
            float_of(load(pictures, ((std::int64_t{at.n} * p.h + h) * p.w + w) * p.c + first_channel + mine));
    }
    store(tile, i * kPitch + mine, value);
  }
  sync_block();
  for (int c = warp; c < kFlatChannels && first_channel + c < p.c; c += kWarps) {
    const std::int64_t at = first + 2 * mine;
    if (at >= pitch) continue;
    store_vector(
        flat, (first_channel + c) * pitch + at,
        Vector<float, 2>{{load(tile, 2 * mine * kPitch + c), load(tile, (2 * mine + 1) * kPitch + c)}});
  }
}

inline FlatAxis rows_axis(const Conv2d& p) {
  const auto i = [](std::int64_t value) { return static_cast<int>(value); };
  return {i(p.h), i(p.oh), i(p.r), i(p.stride_h), i(p.pad_h), i(p.dil_h)};
}
inline FlatAxis columns_axis(const Conv2d& p) {
  const auto i = [](std::int64_t value) { return static_cast<int>(value); };
  return {i(p.w), i(p.ow), i(p.s), i(p.stride_w), i(p.pad_w), i(p.dil_w)};
}

/// Whether a weight gradient is made so: where at least half of a tile is not zeros, and half of the flat
/// pixels; with a stride, taps next to each other.
inline bool weight_grad_runs_flat(const Conv2d& p) {
  if (p.groups != 1 || p.k < 64 || p.c < 32) return false;
  if ((p.stride_h > 1 && p.dil_h > 1) || (p.stride_w > 1 && p.dil_w > 1)) return false;
  const std::int64_t pixels = p.n * p.oh * p.ow,
                     flat = p.n * rows_axis(p).length() * columns_axis(p).length();
  return pixels > 0 && flat <= 2 * pixels && device::has_hopper();
}

template <class T>
void weight_grad_flat(const Conv2d& conv, float* dw, const T* x, const T* dy) {
  constexpr const char* kName = "conv2d_weight_grad";
  const ConvShape p = conv_shape(conv);
  const FlatAxis h = rows_axis(conv), w = columns_axis(conv);
  const std::int64_t pixels = conv.n * h.length() * w.length();
  if (pixels > std::numeric_limits<int>::max())
    throw DeviceFault("conv2d: " + std::to_string(pixels) + " pixels at once; use a smaller batch");
  const std::int64_t pitch = (pixels + 3) / 4 * 4;
  const int planes = h.planes() * w.planes();

  const device::Workspace x_memory(static_cast<std::size_t>(planes * conv.c * pitch) * sizeof(float)),
      dy_memory(static_cast<std::size_t>(conv.k * pitch) * sizeof(float));
  float *const x_flat = x_memory.of<float>(), *const dy_flat = dy_memory.of<float>();
  const auto lay_flat = [&](float* to, const T* from, const FlatPlane& plane) {
    device::launch(kName,
                   {static_cast<unsigned>((pitch + kFlatPixels - 1) / kFlatPixels),
                    static_cast<unsigned>(tiles_for(plane.c, kFlatChannels))},
                   {kBlockThreads}, sizeof(float) * kFlatPixels * (kFlatChannels + 1), lay_flat_kernel<T>,
                   plane, pixels, pitch, to, from);
  };
  lay_flat(dy_flat, dy, {h.length(), w.length(), p.oh, p.ow, p.k, 1, 1, 0, 0});
  for (int i = 0; i < h.planes(); ++i)
    for (int j = 0; j < w.planes(); ++j)
      lay_flat(x_flat + (std::int64_t{i} * w.planes() + j) * conv.c * pitch, x,
               {h.length(), w.length(), p.h, p.w, p.c, h.stride, w.stride, h.first(i), w.first(j)});

  const int piece = p.c > 64 ? 128 : 64, padded = tiles_for(p.c, piece) * piece, taps = p.r * p.s;
  const FlatShape shape{h.length(), w.length(), conv.s,  conv.stride_h, conv.stride_w, w.planes(), h.lowest(),
                        w.lowest(), p.pad_h,    p.pad_w, p.dil_h,       p.dil_w,       padded,     p.c};
  const device::TensorMap map =
      matrix_rows<AsTf32>(x_flat, planes * conv.c, pixels, pitch, static_cast<std::uint32_t>(piece)).map;
  run_hopper_product<AsTf32>(
      kName, {1, p.k, taps * padded, tiles_for(static_cast<int>(pixels), kHopperDepth<AsTf32>), 1},
      matrix_rows<AsTf32>(dy_flat, conv.k, pixels, pitch, kHopperRows),
      [&](int width) {
        return ShiftedRows{map, shape, piece, width / piece};
      },
      StoreTaps{dw, p.k, p.c, taps, padded});
}

}  // namespace grapnel::kernels
