// Convolutions on Hopper: the products of gemm/hopper.cuh, with patches that tensor maps gather.
//
// A step is one tap of up to 128 bytes of channels: a column of 128 pixels that this tap reads, whatever
// rows and pictures they lie in (device::PixelLayout), and the weights of all output channels for it. The
// gradient of the input is such a convolution too, of dy with the taps in reverse; with strides it is one for
// each phase.
#pragma once

#include <numeric>
#include <vector>

#include "grapnel/kernels/common/precision.h"
#include "grapnel/kernels/conv2d/conv_shape.cuh"
#include "grapnel/kernels/gemm/hopper.cuh"

namespace grapnel::kernels {

/// A forward convolution of x or dy that makes a pass, or for a gradient with strides one phase of it: the
/// pixels of dx that lie a stride apart, which are reached by a subset of the taps. Of the filters it takes
/// every `every`-th tap from `first` on (rows, columns); its pixels are those of the result at (0, 0) +
/// place, and so on by `apart`. Its padding may be negative, and it may have no taps.
struct Phase {
  Conv2d conv;
  std::array<std::int64_t, 2> first, every, place, apart;
  std::int64_t packed;  // where its weights begin
};

/// One axis of a phase of the input's gradient.
struct PhaseAxis {
  std::int64_t taps, pad, dil, out, first, every;
};
inline PhaseAxis phase_axis(std::int64_t in, std::int64_t kernel, std::int64_t stride, std::int64_t pad,
                            std::int64_t dil, std::int64_t place) {
  const std::int64_t common = std::gcd(stride, dil);
  PhaseAxis axis{
      0, 0, dil / common, place < in ? (in - place + stride - 1) / stride : 0, 0, -stride / common};
  // Position place + o * stride receives dy[o + distance / stride] by tap r: the higher r, the lower.
  for (std::int64_t r = 0; r < kernel; ++r) {
    const std::int64_t distance = place + pad - r * dil;
    if (distance % stride != 0) continue;
    ++axis.taps;
    axis.first = r;
    axis.pad = -distance / stride;
  }
  return axis;
}

inline std::vector<Phase> phases_of(const Conv2d& p, ConvPass pass) {
  if (pass == ConvPass::forward) return {{p, {0, 0}, {1, 1}, {0, 0}, {1, 1}, 0}};
  std::vector<Phase> phases;
  std::int64_t packed = 0;
  for (std::int64_t i = 0; i < p.stride_h; ++i)
    for (std::int64_t j = 0; j < p.stride_w; ++j) {
      const PhaseAxis h = phase_axis(p.h, p.r, p.stride_h, p.pad_h, p.dil_h, i),
                      w = phase_axis(p.w, p.s, p.stride_w, p.pad_w, p.dil_w, j);
      phases.push_back(
          {{p.n, p.k, p.oh, p.ow, p.c, h.taps, w.taps, h.out, w.out, 1, 1, h.pad, w.pad, h.dil, w.dil, 1},
           {h.first, w.first},
           {h.every, w.every},
           {i, j},
           {p.stride_h, p.stride_w},
           packed});
      packed += p.c * h.taps * w.taps * p.k;
    }
  return phases;
}

/// How far from a picture's last row or column the last pixel lies whose neighbours are read: the upper
/// corner of a PixelLayout. The lower one is -pad.
inline int last_corner(std::int64_t in, std::int64_t out, std::int64_t stride, std::int64_t pad) {
  return static_cast<int>((out - 1) * stride - pad - in + 1);
}

/// Whether one of the two is made by these kernels: in TF32 or bfloat16, where tensor maps can describe it,
/// and where at least half of a step and of the narrowest tile is not zeros.
inline bool runs_on_hopper(const Conv2d& conv, ConvPass pass, Precision precision) {
  if (precision == Precision::fp32 || conv.groups != 1) return false;
  const std::int64_t piece = precision == Precision::tf32 ? 4 : 8;  // channels in 16 bytes
  const std::int64_t in = pass == ConvPass::forward ? conv.c : conv.k,
                     out = pass == ConvPass::forward ? conv.k : conv.c;
  if (in % piece != 0 || in < 4 * piece || out < 32) return false;
  const auto in_map = [](std::int64_t size, std::int64_t result, std::int64_t stride, std::int64_t pad,
                         std::int64_t reach) {
    const std::int64_t last = last_corner(size, result, stride, pad);
    return stride <= 8 && reach <= 255 && std::min(-pad, last) >= -128 && std::max(-pad, last) <= 127;
  };
  const auto describable = [&](const Phase& phase) {
    const Conv2d& p = phase.conv;
    return p.r * p.s == 0 || (in_map(p.h, p.oh, p.stride_h, p.pad_h, p.dil_h * (p.r - 1)) &&
                              in_map(p.w, p.ow, p.stride_w, p.pad_w, p.dil_w * (p.s - 1)));
  };
  return std::ranges::all_of(phases_of(conv, pass), describable) && device::has_hopper();
}

/// Patches of x: rows are pixels of y, steps are taps times pieces of the channels.
template <class T>
struct PatchColumns {
  device::TensorMap map;
  ConvShape p;
  Divisor steps_per_tap;

  GRAPNEL_DEVICE void load(device::Shared<T> to, int row, int step,
                           device::Shared<device::Barrier> full) const {
    const Tap tap = tap_of(step, p.s, steps_per_tap);
    const Pixel at = pixel_of(row, p.oh, p.ow);
    device::load_pixels(to, map,
                        std::array{tap.channel * kHopperDepth<T>, at.w * p.stride_w - p.pad_w,
                                   at.h * p.stride_h - p.pad_h, at.n},
                        std::array{tap.s * p.dil_w, tap.r * p.dil_h}, full);
  }
};

/// Packed weights [out][(r, s)][in]: rows are output channels.
template <class T>
struct WeightRows {
  device::TensorMap map;
  Divisor steps_per_tap;

  GRAPNEL_DEVICE void load(device::Shared<T> to, int row, int step,
                           device::Shared<device::Barrier> full) const {
    device::load_tile(to, map, std::array{step % steps_per_tap * kHopperDepth<T>, step / steps_per_tap, row},
                      full);
  }
};

/// packed [out][(r, s)][in] from weights that lie at w and by those strides, which may be negative.
template <class T>
GRAPNEL_KERNEL(kBlockThreads)
pack_rows_kernel(std::int64_t count, Divisor taps, Divisor across, Divisor in, device::Global<T> packed,
                 device::Global<const float> w, std::int64_t stride_out, std::int64_t stride_in,
                 std::int64_t stride_r, std::int64_t stride_s) {
  const std::int64_t i = element();
  if (i >= count) return;
  const int line = static_cast<int>(i) / in, tap = line % taps;
  device::store(
      packed, i,
      operand_of<T>(device::load(w, line / taps * stride_out + static_cast<int>(i) % in * stride_in +
                                        tap / across * stride_r + tap % across * stride_s)));
}

template <class T>
void pack_for_hopper(const char* name, const Conv2d& conv, ConvPass pass, T* packed, const float* w,
                     const std::int64_t* strides) {
  const bool forward = pass == ConvPass::forward;
  for (const Phase& phase : phases_of(conv, pass)) {
    const Conv2d& p = phase.conv;
    const std::int64_t count = p.k * p.r * p.s * p.c;
    launch_each(name, count, pack_rows_kernel<T>, count, p.r * p.s, p.s, p.c, packed + phase.packed,
                w + phase.first[0] * strides[2] + phase.first[1] * strides[3], strides[forward ? 0 : 1],
                strides[forward ? 1 : 0], phase.every[0] * strides[2], phase.every[1] * strides[3]);
  }
}

/// Where the results of a phase go: an Output of all pixels sees it.
template <class Output>
struct StorePhase {
  Output all;
  Divisor rows, columns;
  int h, w, apart_h, apart_w, place_h, place_w;

  bool in_fours() const { return all.in_fours(); }
  template <int width>
  GRAPNEL_DEVICE void operator()(int group, int pixel, int n,
                                 const device::Vector<float, width>& sums) const {
    const Pixel at = pixel_of(pixel, rows, columns);
    all(group, (at.n * h + at.h * apart_h + place_h) * w + at.w * apart_w + place_w, n, sums);
  }
};

/// `output` of a forward convolution of dense pixels, with packed weights; of none at all, sums of 0.
template <class T, class Output>
void convolve_on_hopper(const char* name, const Conv2d& conv, const T* pixels, const T* packed,
                        const Output& output) {
  using namespace device;
  const ConvShape p = conv_shape(conv);
  if (p.n * p.oh * p.ow == 0) return;
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const auto steps_per_tap = tiles_for(p.c, kHopperDepth<T>);
  const int taps = p.r * p.s, mapped_taps = std::max(taps, 1);  // maps have no empty dimension
  PixelLayout layout{{u(p.c), u(p.w), u(p.h), u(p.n)},
                     {0, 0},
                     {0, 0},
                     {static_cast<std::uint32_t>(p.stride_w), static_cast<std::uint32_t>(p.stride_h)},
                     kHopperDepth<T>,
                     kHopperRows};
  if (taps > 0) {
    layout.lower = {-p.pad_w, -p.pad_h};
    layout.upper = {last_corner(conv.w, conv.ow, conv.stride_w, conv.pad_w),
                    last_corner(conv.h, conv.oh, conv.stride_h, conv.pad_h)};
  }
  const PatchColumns<T> patches{make_pixel_map(pixels, layout, Swizzle::bytes128, kHopperRounding<T>), p,
                                steps_per_tap};
  const auto run = [&]<int kN>() {
    const std::uint64_t row = u(p.c) * sizeof(T);
    const TensorLayout weights{3,
                               {u(p.c), u(mapped_taps), u(p.k)},
                               {sizeof(T), row, u(mapped_taps) * row},
                               {kHopperDepth<T>, 1, kN}};
    run_hopper_product<T, kN>(
        name, {1, p.n * p.oh * p.ow, p.k, taps * steps_per_tap, 1}, patches,
        WeightRows<T>{make_tensor_map(packed, weights, Swizzle::bytes128, kHopperRounding<T>), steps_per_tap},
        output);
  };
  p.k > 64 ? run.template operator()<128>() : run.template operator()<64>();
}

/// All phases of a pass over x or dy, with what pack_for_hopper packed.
template <class T, class Output>
void pass_on_hopper(const char* name, const Conv2d& conv, ConvPass pass, const float* from, const T* packed,
                    const Output& output) {
  const auto i = [](std::int64_t value) { return static_cast<int>(value); };
  const bool forward = pass == ConvPass::forward;
  const std::int64_t channels = forward ? conv.c : conv.k,
                     pixels = conv.n * (forward ? conv.h * conv.w : conv.oh * conv.ow);
  with_operand<T>(name, from, pixels, channels, channels, [&](const T* dense, std::int64_t) {
    for (const Phase& phase : phases_of(conv, pass)) {
      const Conv2d& p = phase.conv;
      const T* weights = p.r * p.s > 0 ? packed + phase.packed : packed;
      if (phase.apart == std::array<std::int64_t, 2>{1, 1})
        convolve_on_hopper<T>(name, p, dense, weights, output);
      else
        convolve_on_hopper<T>(name, p, dense, weights,
                              StorePhase<Output>{output, p.oh, p.ow, i(conv.h), i(conv.w), i(phase.apart[0]),
                                                 i(phase.apart[1]), i(phase.place[0]), i(phase.place[1])});
    }
  });
}

}  // namespace grapnel::kernels
