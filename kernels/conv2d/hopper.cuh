// Convolutions on Hopper: the products of gemm/hopper.cuh, with patches that tensor maps gather.
//
// A step is one tap of up to 128 bytes of channels: a column of 128 pixels that this tap reads, whatever
// rows and pictures they lie in (device::PixelLayout), and the weights of all output channels for it. The
// gradient of the input is such a convolution too, of dy with the taps in reverse; with strides it is one for
// each phase.
#pragma once

#include "grapnel/kernels/conv2d/phases.cuh"
#include "grapnel/kernels/gemm/hopper.cuh"

namespace grapnel::kernels {

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

/// Packed weights (phases.cuh): rows are output channels.
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

/// Of the product that a forward convolution is; k counts steps.
template <class Way>
ProductSizes hopper_sizes(const ConvShape& p) {
  return {1, p.n * p.oh * p.ow, p.k, p.r * p.s * tiles_for(p.c, kHopperDepth<Way>), 1};
}

/// `output` of a forward convolution of dense pixels, with packed weights, whose parts lie `apart`; of none
/// at all, sums of 0. Gives what run_product does.
template <class Way, class Output>
int convolve_on_hopper(const char* name, const Conv2d& conv, const ElementOf<Way>* pixels,
                       const ElementOf<Way>* packed, std::int64_t apart, const Output& output) {
  using namespace device;
  constexpr std::uint64_t kElement = sizeof(ElementOf<Way>);
  const ConvShape p = conv_shape(conv);
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const auto steps_per_tap = tiles_for(p.c, kHopperDepth<Way>);
  const int mapped_taps = std::max(p.r * p.s, 1);  // maps have no empty dimension
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
  return run_hopper_product<Way>(name, hopper_sizes<Way>(p), patches, weights, output);
}

/// All phases of a pass over x or dy. `from` may already be there as an operand. Gives what run_product does.
template <class Way, class T, class Output>
int pass_on_hopper(const char* name, const Conv2d& conv, ConvPass pass, const T* from,
                   const ElementOf<Way>* operand, const ElementOf<Way>* packed, const Output& output) {
  const MatrixOf<T> pixels = pixels_of(conv, pass, from);
  int piece = 0;
  const auto convolve = [&](const ElementOf<Way>* dense, std::int64_t) {
    for_each_phase(conv, pass, output, [&](const Phase& phase, const auto& stored) {
      piece = convolve_on_hopper<Way>(name, phase.conv, dense, packed + phase.lines * pixels.columns,
                                      packed_elements<Way>(conv, pass), stored);
    });
  };
  operand ? convolve(operand, pixels.columns) : with_operand<Way>(name, pixels, convolve);
  return piece;
}

}  // namespace grapnel::kernels
