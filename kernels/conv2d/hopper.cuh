// Convolutions on Hopper: the products of gemm/hopper.cuh, with patches that tensor maps gather.
//
// A step is one tap of up to 128 bytes of channels: a column of 128 pixels that this tap reads, whatever
// rows and pictures they lie in (device::PixelLayout), and the weights of all output channels for it. With
// stride 1, the gradient of the input is such a convolution too, of dy with the taps in reverse.
#pragma once

#include "grapnel/kernels/common/precision.h"
#include "grapnel/kernels/conv2d/conv_shape.cuh"
#include "grapnel/kernels/gemm/hopper.cuh"

namespace grapnel::kernels {

/// The forward convolution that a pass is, of x or dy; the padding may be negative.
inline Conv2d as_forward(const Conv2d& p, ConvPass pass) {
  if (pass == ConvPass::forward) return p;
  Conv2d result = p;
  std::swap(result.c, result.k);
  std::swap(result.h, result.oh);
  std::swap(result.w, result.ow);
  result.pad_h = p.dil_h * (p.r - 1) - p.pad_h;
  result.pad_w = p.dil_w * (p.s - 1) - p.pad_w;
  return result;
}

/// Whether one of the two is made by these kernels: in TF32 or bfloat16, where tensor maps can describe it, and where
/// at least half of a step and of the narrowest tile is not zeros.
inline bool runs_on_hopper(const Conv2d& conv, ConvPass pass, Precision precision) {
  if (precision == Precision::fp32 || conv.groups != 1) return false;
  if (pass == ConvPass::input_grad && (conv.stride_h != 1 || conv.stride_w != 1)) return false;
  const Conv2d p = as_forward(conv, pass);
  const std::int64_t piece = precision == Precision::tf32 ? 4 : 8;  // channels in 16 bytes
  const auto in_map = [](std::int64_t stride, std::int64_t pad, std::int64_t reach) {
    return stride <= 8 && reach <= 255 && std::min(-pad, pad - reach) >= -128 &&
           std::max(-pad, pad - reach) <= 127;
  };
  return p.c % piece == 0 && p.c >= 4 * piece && p.k >= 32 &&
         in_map(p.stride_h, p.pad_h, p.dil_h * (p.r - 1)) &&
         in_map(p.stride_w, p.pad_w, p.dil_w * (p.s - 1)) && device::has_hopper();
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

/// packed [out][(r, s)][in] from the weights of any strides; for input_grad, in and out change sides and taps
/// are in reverse.
template <class T>
GRAPNEL_KERNEL(kBlockThreads)
pack_rows_kernel(ConvShape p, bool forward, device::Global<T> packed, device::Global<const float> w,
                 std::int64_t stride_k, std::int64_t stride_c, std::int64_t stride_r, std::int64_t stride_s) {
  const Divisor in = forward ? p.c_group : p.k_group;
  const std::int64_t i = element(), taps = std::int64_t{p.r} * p.s;
  if (i >= taps * p.c * p.k) return;
  const Tap tap = tap_of(static_cast<int>(i % (taps * in)), p.s, in);
  const std::int64_t out = i / (taps * in), k = forward ? out : tap.channel, c = forward ? tap.channel : out;
  const int r = forward ? tap.r : p.r - 1 - tap.r, s = forward ? tap.s : p.s - 1 - tap.s;
  device::store(packed, i,
                operand_of<T>(device::load(w, k * stride_k + c * stride_c + r * stride_r + s * stride_s)));
}

/// y = `output` of the forward convolution `conv` of x, with packed weights.
template <class T, class Output>
void convolve_on_hopper(const char* name, const Conv2d& conv, const float* x, const float* packed,
                        const Output& output) {
  using namespace device;
  const ConvShape p = conv_shape(conv);
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const auto steps_per_tap = tiles_for(p.c, kHopperDepth<T>);
  const int taps = p.r * p.s;
  const auto run = [&]<int kN>(const PatchColumns<T>& patches) {
    const std::uint64_t row = u(p.c) * sizeof(T);
    const TensorLayout weights{
        3, {u(p.c), u(taps), u(p.k)}, {sizeof(T), row, u(taps) * row}, {kHopperDepth<T>, 1, kN}};
    run_hopper_product<T, kN>(name, {1, p.n * p.oh * p.ow, p.k, taps * steps_per_tap, 1}, patches,
                              WeightRows<T>{make_tensor_map(reinterpret_cast<const T*>(packed), weights,
                                                            Swizzle::bytes128, kHopperRounding<T>),
                                            steps_per_tap},
                              output);
  };
  with_operand<T>(name, x, conv.n * conv.h * conv.w, conv.c, conv.c, [&](const T* pixels, std::int64_t) {
    const PixelLayout layout{{u(p.c), u(p.w), u(p.h), u(p.n)},
                             {-p.pad_w, -p.pad_h},
                             {p.pad_w - p.dil_w * (p.s - 1), p.pad_h - p.dil_h * (p.r - 1)},
                             {static_cast<std::uint32_t>(p.stride_w), static_cast<std::uint32_t>(p.stride_h)},
                             kHopperDepth<T>,
                             kHopperRows};
    const PatchColumns<T> patches{make_pixel_map(pixels, layout, Swizzle::bytes128, kHopperRounding<T>), p,
                                  steps_per_tap};
    p.k > 64 ? run.template operator()<128>(patches) : run.template operator()<64>(patches);
  });
}

}  // namespace grapnel::kernels
