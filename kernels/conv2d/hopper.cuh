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

/// Whether one of the two is made by these kernels: where tensor maps can describe it, and where at least
/// half of a step and of the narrowest tile is not zeros.
inline bool runs_on_hopper(const Conv2d& conv, ConvPass pass, Precision precision) {
  if (conv.groups != 1) return false;
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

/// Of dense pictures, a part behind the other, columns of `pixels` as a tap of a convolution reads them, a
/// step's worth of channels wide. Without taps, of pixels that are there.
template <class Way>
device::TensorMap pixel_columns(const Conv2d& p, const ElementOf<Way>* pictures, std::uint32_t pixels) {
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const auto i = [](std::int64_t size) { return static_cast<int>(size); };
  const bool has_taps = p.r * p.s > 0;
  const auto corner = [&](int value) { return has_taps ? value : 0; };
  return device::make_pixel_map(
      pictures,
      device::PixelLayout{{u(p.c), u(p.w), u(p.h), u(Way::kParts * p.n)},
                          {corner(i(-p.pad_w)), corner(i(-p.pad_h))},
                          {corner(last_corner(p.w, p.ow, p.stride_w, p.pad_w)),
                           corner(last_corner(p.h, p.oh, p.stride_h, p.pad_h))},
                          {static_cast<std::uint32_t>(p.stride_w), static_cast<std::uint32_t>(p.stride_h)},
                          kHopperDepth<Way>,
                          pixels},
      device::Swizzle::bytes128, kHopperRounding<Way>);
}

/// Starts to copy what a tap reads for the pixels of y from `pixel` on. A part is as many more pictures.
template <class T>
GRAPNEL_DEVICE void load_tap(device::Shared<T> to, const device::TensorMap& columns, const ConvShape& p,
                             int part, int pixel, const Tap& tap, device::Shared<device::Barrier> full) {
  const Pixel at = pixel_of(pixel, p.oh, p.ow);
  device::load_pixels(
      to, columns,
      std::array{tap.channel, at.w * p.stride_w - p.pad_w, at.h * p.stride_h - p.pad_h, part * p.n + at.n},
      std::array{tap.s * p.dil_w, tap.r * p.dil_h}, full);
}

/// Patches of x: rows are pixels of y, steps are taps times pieces of the channels.
template <class Way>
struct PatchColumns {
  static constexpr device::Major kMajor = device::Major::k;
  device::TensorMap map;
  ConvShape p;
  Divisor steps_per_tap;

  GRAPNEL_DEVICE void load(device::Shared<ElementOf<Way>> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    Tap tap = tap_of(step, p.s, steps_per_tap);
    tap.channel *= kHopperDepth<Way>;
    load_tap(to, map, p, part, row, tap, full);
  }
};

/// Packed weights [part][out][(r, s)][in]: rows are output channels.
template <class Way>
struct WeightRows {
  static constexpr device::Major kMajor = device::Major::k;
  device::TensorMap map;
  Divisor steps_per_tap;

  GRAPNEL_DEVICE void load(device::Shared<ElementOf<Way>> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    device::load_tile(
        to, map, std::array{step % steps_per_tap * kHopperDepth<Way>, step / steps_per_tap, row, part}, full);
  }
};

/// packed [out][(r, s)][in], and so each part, `apart` elements behind the one before, from weights that lie
/// at w and by those strides, which may be negative.
template <class Way>
GRAPNEL_KERNEL(kBlockThreads)
pack_rows_kernel(std::int64_t count, Divisor taps, Divisor across, Divisor in, std::int64_t apart,
                 device::Global<ElementOf<Way>> packed, device::Global<const float> w,
                 std::int64_t stride_out, std::int64_t stride_in, std::int64_t stride_r,
                 std::int64_t stride_s) {
  device::after_previous();
  const std::int64_t i = element();
  if (i >= count) return;
  const int line = static_cast<int>(i) / in, tap = line % taps;
  const auto parts =
      parts_of<Way>(device::load(w, line / taps * stride_out + static_cast<int>(i) % in * stride_in +
                                        tap / across * stride_r + tap % across * stride_s));
  GRAPNEL_UNROLL
  for (std::size_t part = 0; part < Way::kParts; ++part)
    device::store(packed, static_cast<std::int64_t>(part) * apart + i, parts[part]);
}

/// Elements of one part of the packed weights.
inline std::int64_t packed_part(const Conv2d& p) {
  return p.k * p.c * p.r * p.s;
}

template <class Way>
void pack_for_hopper(const char* name, const Conv2d& conv, ConvPass pass, ElementOf<Way>* packed,
                     const float* w, const std::int64_t* strides) {
  const bool forward = pass == ConvPass::forward;
  for (const Phase& phase : phases_of(conv, pass)) {
    const Conv2d& p = phase.conv;
    const std::int64_t count = p.k * p.r * p.s * p.c;
    launch_each(name, count, pack_rows_kernel<Way>, count, p.r * p.s, p.s, p.c, packed_part(conv),
                packed + phase.packed, w + phase.first[0] * strides[2] + phase.first[1] * strides[3],
                strides[forward ? 0 : 1], strides[forward ? 1 : 0], phase.every[0] * strides[2],
                phase.every[1] * strides[3]);
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

/// Where the sums of a weight gradient go, columns by taps, then channels up to `padded`: dw (K, C, R, S).
struct StoreTaps {
  float* dw;
  int channels, taps;
  Divisor padded;

  bool in_fours() const { return true; }
  template <int width>
  GRAPNEL_DEVICE void operator()(int, int k, int n, const device::Vector<float, width>& sums) const {
    const int tap = n / padded, channel = n % padded;
    GRAPNEL_UNROLL
    for (int e = 0; e < width; ++e)
      if (channel + e < channels)
        device::store(device::Global<float>(dw),
                      (static_cast<std::int64_t>(k) * channels + channel + e) * taps + tap, sums[e]);
  }
};

/// `output` of a forward convolution of dense pixels, with packed weights, whose parts lie `apart`; of none
/// at all, sums of 0. Says how.
template <class Way, class Output>
Tiling convolve_on_hopper(const char* name, const Conv2d& conv, const ElementOf<Way>* pixels,
                          const ElementOf<Way>* packed, std::int64_t apart, const Output& output) {
  using namespace device;
  constexpr std::uint64_t kElement = sizeof(ElementOf<Way>);
  const ConvShape p = conv_shape(conv);
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const auto steps_per_tap = tiles_for(p.c, kHopperDepth<Way>);
  const int taps = p.r * p.s, mapped_taps = std::max(taps, 1);  // maps have no empty dimension
  const PatchColumns<Way> patches{pixel_columns<Way>(conv, pixels, kHopperRows), p, steps_per_tap};
  const auto weights = [&](std::uint32_t together) {
    const std::uint64_t row = u(p.c) * kElement;
    const TensorLayout rows{4,
                            {u(p.c), u(mapped_taps), u(p.k), Way::kParts},
                            {kElement, row, u(mapped_taps) * row, u(apart) * kElement},
                            {kHopperDepth<Way>, 1, together, 1}};
    return WeightRows<Way>{make_tensor_map(packed, rows, Swizzle::bytes128, kHopperRounding<Way>),
                           steps_per_tap};
  };
  return run_hopper_product<Way>(name, {1, p.n * p.oh * p.ow, p.k, taps * steps_per_tap, 1}, patches, weights,
                                 output);
}

/// All phases of a pass over x or dy, with what pack_for_hopper packed. `from` may already be there as an
/// operand. Says how, of the last phase.
template <class Way, class Output>
Tiling pass_on_hopper(const char* name, const Conv2d& conv, ConvPass pass, const float* from,
                      const ElementOf<Way>* operand, const ElementOf<Way>* packed, const Output& output) {
  const auto i = [](std::int64_t value) { return static_cast<int>(value); };
  const bool forward = pass == ConvPass::forward;
  const std::int64_t channels = forward ? conv.c : conv.k,
                     pixels = conv.n * (forward ? conv.h * conv.w : conv.oh * conv.ow);
  Tiling tiling{};
  const auto convolve = [&](const ElementOf<Way>* dense, std::int64_t) {
    for (const Phase& phase : phases_of(conv, pass)) {
      const Conv2d& p = phase.conv;
      const ElementOf<Way>* weights = p.r * p.s > 0 ? packed + phase.packed : packed;
      if (p.n * p.oh * p.ow == 0) continue;
      if (phase.apart == std::array<std::int64_t, 2>{1, 1})
        tiling = convolve_on_hopper<Way>(name, p, dense, weights, packed_part(conv), output);
      else
        tiling = convolve_on_hopper<Way>(
            name, p, dense, weights, packed_part(conv),
            StorePhase<Output>{output, p.oh, p.ow, i(conv.h), i(conv.w), i(phase.apart[0]), i(phase.apart[1]),
                               i(phase.place[0]), i(phase.place[1])});
    }
  };
  operand ? convolve(operand, channels) : with_operand<Way>(name, from, pixels, channels, channels, convolve);
  return tiling;
}

}  // namespace grapnel::kernels
