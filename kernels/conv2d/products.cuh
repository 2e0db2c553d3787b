// Convolutions by the products of gemm/tiled.cuh, on any GPU: by float FMAs, or by tensor cores. Any channels
// and groups: where they are no whole pieces of 16 bytes, tensor cores get copies with zeros between them.
#pragma once

#include "grapnel/kernels/conv2d/phases.cuh"
#include "grapnel/kernels/conv2d/sources.cuh"
#include "grapnel/kernels/gemm/fragments.cuh"
#include "grapnel/kernels/gemm/multiply.cuh"
#include "grapnel/kernels/gemm/strided.cuh"

namespace grapnel::kernels {

template <class T>
bool lies_in_fours(const MatrixOf<T>& from) {
  return from.columns % 4 == 0 && aligned_for_four(from.data);
}

/// Calls use.operator()<width>(operand, pitch): so many elements are copied together. `operand`: if it is
/// already there, dense, and so used if rows are whole pieces.
template <class Way, class T, class Use>
void with_width(const char* name, const MatrixOf<T>& from, const ElementOf<Way>* operand, const Use& use) {
  const auto in_pieces = [&](const ElementOf<Way>* data, std::int64_t pitch) {
    use.template operator()<kPiece<Way>>(data, pitch);
  };
  if (operand && from.columns % kPiece<Way> == 0)
    in_pieces(operand, from.columns);
  else if constexpr (!std::is_same_v<Way, AsFloats>)
    with_operand<Way>(name, from, in_pieces);
  else if (lies_in_fours(from))
    in_pieces(from.data, from.columns);
  else
    use.template operator()<1>(from.data, from.columns);
}

/// Columns of the large tiles of float FMAs in a pass over x or dy.
inline constexpr int kWidePixels = 128;

/// Of the product that a forward convolution is.
template <class Way>
ProductSizes product_sizes(const ConvShape& p) {
  return {p.groups, p.n * p.oh * p.ow, p.k_group, p.r * p.s * static_cast<int>(whole_pieces<Way>(p.c_group)),
          1};
}

/// Among how many blocks pass_by_products splits a sum of a forward convolution of x.
template <class Way, class T>
int splits_of_products(const Conv2d& conv, const T* x) {
  const ProductSizes sizes = product_sizes<Way>(conv_shape(conv));
  if constexpr (std::is_same_v<Way, AsFloats>)
    return float_tiling(sizes, kWidePixels, lies_in_fours(pixels_of(conv, ConvPass::forward, x))).splits;
  else
    return fragment_tiling<Way>(sizes).splits;
}

template <class Way, int kLargeN, class A, class B, class Output>
int run_tiles(const char* name, const ProductSizes& s, const A& a, const B& b, const Output& output) {
  if constexpr (std::is_same_v<Way, AsFloats>)
    return run_float_product<kLargeN>(name, s, a, b, output);
  else
    return run_fragment_product<Way>(name, s, a, b, output);
}

/// Forward or input gradient, with what pack_rows packed. `from` may already be there as an operand. Gives
/// what run_product does.
template <class Way, class T, class Output>
int pass_by_products(const char* name, const Conv2d& conv, ConvPass pass, const T* from,
                     const ElementOf<Way>* operand, const ElementOf<Way>* packed, const Output& output) {
  int piece = 0;
  with_width<Way>(name, pixels_of(conv, pass, from), operand,
                  [&]<int width>(const ElementOf<Way>* pixels, std::int64_t channels) {
                    for_each_phase(conv, pass, output, [&](const Phase& phase, const auto& stored) {
                      const ConvShape p = conv_shape(phase.conv);
                      const ProductSizes sizes = product_sizes<Way>(p);
                      const std::int64_t filter = sizes.k;
                      piece = run_tiles<Way, kWidePixels>(
                          name, sizes,
                          Patches<ElementOf<Way>, true, width>{pixels, p, channels,
                                                               p.groups * static_cast<int>(channels)},
                          Strided<ElementOf<Way>, true, width, std::is_same_v<Way, AsTf32>>{
                              packed + phase.lines * channels, filter, 1, sizes.n, sizes.n * filter},
                          stored);
                    });
                  });
  return piece;
}

/// The sums of this one are long: with FMAs, tiles of 64 columns fold them as they go.
template <class Way, class V>
void weight_grad_by_products(const Conv2d& conv, float* dw, const V* x, const V* dy,
                             const ElementOf<Way>* x_operand, const ElementOf<Way>* dy_operand) {
  using T = ElementOf<Way>;
  constexpr const char* kName = "conv2d_weight_grad";
  const ConvShape p = conv_shape(conv);
  const MatrixOf<V> of_x = pixels_of(conv, ConvPass::forward, x),
                    of_dy = pixels_of(conv, ConvPass::input_grad, dy);
  with_width<Way>(kName, of_x, x_operand, [&]<int width_x>(const T* pixels, std::int64_t channels) {
    with_width<Way>(kName, of_dy, dy_operand, [&]<int width_dy>(const T* gradients, std::int64_t filters) {
      constexpr int kWidth = std::min(width_x, width_dy);
      const int taps = p.r * p.s, padded = static_cast<int>(channels);
      run_tiles<Way, 64>(kName, {p.groups, p.k_group, taps * padded, p.n * p.oh * p.ow, 1},
                         Strided<T, false, kWidth>{gradients, 1, p.groups * filters, p.k_group, filters},
                         Patches<T, false, kWidth>{pixels, p, channels, p.groups * padded},
                         StoreTaps{dw, p.k_group, p.c_group, taps, padded});
    });
  });
}

}  // namespace grapnel::kernels
