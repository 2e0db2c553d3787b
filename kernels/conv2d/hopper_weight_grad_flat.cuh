// Weight gradients of many channels on Hopper in TF32: dw = dy x, summed over pixels, by the product of
// gemm/hopper.cuh, whose operands lie along what is summed there. So both are laid out anew, a channel's
// pixels behind one another:
//
//   flat pixel (image, i, j) is (image * rows + i) * columns + j, and
//   dw(k, c, r, s) = sum over flat pixels f of dy_flat(k, f) * x_flat(c, f + dilation (r columns + s)),
//
// where x_flat begins with the padding. `rows` and `columns` are those of y and as many more as keep a tap
// from reaching a neighbour that is not zero; dy_flat is zero there. Zeros around a picture serve its
// neighbour, too. (A tap reads some pixels that are multiplied by those zeros: an infinity among them makes
// NaN there, too.)
#pragma once

#include "grapnel/kernels/conv2d/hopper.cuh"

namespace grapnel::kernels {

/// Outputs along an axis, and zeros behind them: as many as taps reach further than the first one, but for
/// the padding, which is behind one picture and before the next.
inline std::int64_t flat_rows(const Conv2d& p) {
  return p.oh + std::max<std::int64_t>(p.dil_h * (p.r - 1) - p.pad_h, 0);
}
inline std::int64_t flat_columns(const Conv2d& p) {
  return p.ow + std::max<std::int64_t>(p.dil_w * (p.s - 1) - p.pad_w, 0);
}

/// Channels that are fetched together, of one tap.
inline constexpr int kFlatSpan = 128;

/// Rows are taps, each with its channels up to whole spans; steps are flat pixels.
struct ShiftedRows {
  static constexpr device::Major kMajor = device::Major::k;
  device::TensorMap map;             // (flat pixel, channel, part)
  Divisor s, padded;                 // columns of the filter; channels of a tap
  int next_row, next_column, width;  // flat pixels from tap to tap

  GRAPNEL_DEVICE void load(device::Shared<float> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    for (int i = 0; i < width; i += kFlatSpan) {
      const Tap tap = tap_of(row + i, s, padded);
      device::load_tile(
          to + i * kHopperDepth<AsTf32>, map,
          std::array{step * kHopperDepth<AsTf32> + tap.r * next_row + tap.s * next_column, tap.channel, part},
          full);
    }
  }
};

inline constexpr int kFlatPixels = 64, kFlatChannels = 32;

/// Dense pictures (N, H, W, C), flat: pixel (i, j) is the one at (i - pad_h, j - pad_w).
struct FlatPictures {
  Divisor rows, columns;  // flat
  int h, w, c, pad_h, pad_w;
};

/// flat (C, pitch) = pictures, zeros where they have no pixel; through shared memory, channels behind one
/// another on one side, pixels on the other.
template <class T>
GRAPNEL_KERNEL(kBlockThreads)
lay_flat_kernel(FlatPictures p, std::int64_t pixels, std::int64_t pitch, device::Global<float> flat,
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
      const int h = at.h - p.pad_h, w = at.w - p.pad_w;
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

/// Whether a weight gradient is made so: where at least half of a tile is not zeros, and half of the flat
/// pixels, and where channels are enough for the copies. Of fewer, and with a stride, mma.sync is expected to
/// be faster, as it takes operands as they lie.
inline bool weight_grad_runs_flat(const Conv2d& p) {
  if (p.groups != 1 || p.k < 64 || p.c < 256 || p.stride_h != 1 || p.stride_w != 1) return false;
  const std::int64_t pixels = p.n * p.oh * p.ow;
  return pixels > 0 && p.n * flat_rows(p) * flat_columns(p) <= 2 * pixels && device::has_hopper();
}

template <class T>
void weight_grad_flat(const Conv2d& conv, float* dw, const T* x, const T* dy) {
  constexpr const char* kName = "conv2d_weight_grad";
  const ConvShape p = conv_shape(conv);
  const std::int64_t rows = flat_rows(conv), columns = flat_columns(conv), pixels = conv.n * rows * columns;
  if (pixels > std::numeric_limits<int>::max())
    throw DeviceFault("conv2d: " + std::to_string(pixels) + " pixels at once; use a smaller batch");
  const std::int64_t pitch = (pixels + 3) / 4 * 4;

  const device::Workspace x_memory(static_cast<std::size_t>(conv.c * pitch) * sizeof(float)),
      dy_memory(static_cast<std::size_t>(conv.k * pitch) * sizeof(float));
  float *const x_flat = x_memory.of<float>(), *const dy_flat = dy_memory.of<float>();
  const auto lay_flat = [&](float* to, const T* from, const FlatPictures& pictures) {
    device::launch(kName,
                   {static_cast<unsigned>((pitch + kFlatPixels - 1) / kFlatPixels),
                    static_cast<unsigned>(tiles_for(pictures.c, kFlatChannels))},
                   {kBlockThreads}, sizeof(float) * kFlatPixels * (kFlatChannels + 1), lay_flat_kernel<T>,
                   pictures, pixels, pitch, to, from);
  };
  lay_flat(dy_flat, dy, {rows, columns, p.oh, p.ow, p.k, 0, 0});
  lay_flat(x_flat, x, {rows, columns, p.h, p.w, p.c, p.pad_h, p.pad_w});

  const int padded = tiles_for(p.c, kFlatSpan) * kFlatSpan, taps = p.r * p.s;
  const device::TensorMap map = matrix_rows<AsTf32>(x_flat, conv.c, pixels, pitch, kFlatSpan).map;
  run_hopper_product<AsTf32>(
      kName, {1, p.k, taps * padded, tiles_for(static_cast<int>(pixels), kHopperDepth<AsTf32>), 1},
      matrix_rows<AsTf32>(dy_flat, conv.k, pixels, pitch, kHopperRows),
      [&](int width) {
        return ShiftedRows{map, p.s, padded, p.dil_h * static_cast<int>(columns), p.dil_w, width};
      },
      StoreTaps{dw, p.k, p.c, taps, padded});
}

}  // namespace grapnel::kernels
