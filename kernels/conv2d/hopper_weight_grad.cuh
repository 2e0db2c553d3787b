// Weight gradients on Hopper: dw = dy x, summed over pixels, by the product of gemm/hopper.cuh. Of bfloat16,
// tensor cores take operands that lie across what is summed: a step is 64 pixels of y, of which a tensor map
// fetches some filters, and another what a tap of some channels reads for them. TF32 is read along what is
// summed: see hopper_weight_grad_flat.cuh.
#pragma once

#include "grapnel/kernels/conv2d/hopper_weight_grad_flat.cuh"

namespace grapnel::kernels {

/// Pixels of a step, and rows that lie side by side.
inline constexpr int kSpan = 64;

/// dy: rows are filters, steps are pixels.
template <class Way>
struct FilterSpans {
  static constexpr device::Major kMajor = device::Major::mn;
  device::TensorMap map;  // (filter, pixel, part)

  GRAPNEL_DEVICE void load(device::Shared<ElementOf<Way>> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    for (int i = 0; i < kHopperRows; i += kSpan)
      device::load_tile(to + i * kSpan, map, std::array{row + i, step * kSpan, part}, full);
  }
};

/// x: rows are taps, each with its channels up to whole spans; steps are pixels of y.
template <class Way>
struct TapSpans {
  static constexpr device::Major kMajor = device::Major::mn;
  device::TensorMap map;
  ConvShape p;
  Divisor padded;  // channels of a tap
  int rows, width;

  GRAPNEL_DEVICE void load(device::Shared<ElementOf<Way>> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    for (int i = 0; i < width; i += kSpan) {
      const int at = row + i < rows ? row + i : 0;  // behind the last tap nobody looks
      load_tap(to + i * kSpan, map, p, part, step * kSpan, tap_of(at, p.s, padded), full);
    }
  }
};

/// Whether a weight gradient is made on Hopper: where at least half of a tile is not zeros.
inline bool weight_grad_runs_on_hopper(const Conv2d& p, Precision precision) {
  if (precision == Precision::tf32) return weight_grad_runs_flat(p);
  return p.k >= 64 && p.k % 8 == 0 && runs_on_hopper(p, ConvPass::forward, precision) &&
         p.n * p.oh * p.ow > 0;
}

/// From operands of dense pixels.
template <class Way>
void weight_grad_of_operands(const Conv2d& conv, float* dw, const ElementOf<Way>* x,
                             const ElementOf<Way>* dy) {
  const ConvShape p = conv_shape(conv);
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const std::int64_t pixels = conv.n * conv.oh * conv.ow;
  const int padded = tiles_for(p.c, kSpan) * kSpan, taps = p.r * p.s;
  constexpr std::uint64_t kElement = sizeof(ElementOf<Way>);
  const device::TensorLayout filters{3,
                                     {u(conv.k), u(pixels), Way::kParts},
                                     {kElement, u(conv.k) * kElement, u(pixels * conv.k) * kElement},
                                     {kSpan, kSpan, 1}};
  const device::TensorMap columns = pixel_columns<Way>(conv, x, kSpan);
  run_hopper_product<Way>(
      "conv2d_weight_grad", {1, p.k, taps * padded, tiles_for(static_cast<int>(pixels), kSpan), 1},
      FilterSpans<Way>{device::make_tensor_map(dy, filters, device::Swizzle::bytes128)},
      [&](int width) {
        return TapSpans<Way>{columns, p, padded, taps * padded, width};
      },
      StoreTaps{dw, p.k, p.c, taps, padded});
}

/// x and dy may already be there as operands.
template <class Way, class T>
void weight_grad_on_hopper(const Conv2d& p, float* dw, const T* x, const T* dy,
                           const ElementOf<Way>* x_operand, const ElementOf<Way>* dy_operand) {
  const auto with = [&](const MatrixOf<T>& from, const ElementOf<Way>* operand, const auto& use) {
    operand ? use(operand, from.columns) : with_operand<Way>("conv2d_weight_grad", from, use);
  };
  with(pixels_of(p, ConvPass::forward, x), x_operand, [&](const ElementOf<Way>* left, std::int64_t) {
    with(pixels_of(p, ConvPass::input_grad, dy), dy_operand, [&](const ElementOf<Way>* right, std::int64_t) {
      weight_grad_of_operands<Way>(p, dw, left, right);
    });
  });
}

}  // namespace grapnel::kernels
