// The filters, once per version of the weights: mapped, [filter][panel of outputs][input][panel], or for few
// tiles as they are, [vector of outputs][input][tap][vector]; zero beyond the outputs.
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/winograd/tiles.h"

namespace grapnel::kernels {

bool winograd_applies(const Conv2d& p, ConvPass pass) {
  return p.r == 3 && p.s == 3 && p.stride_h == p.stride_w && p.dil_h == 1 && p.dil_w == 1 && p.groups == 1 &&
         p.pad_h <= 2 && p.pad_w <= 2 && (p.stride_h == 1 || (p.stride_h == 2 && pass == ConvPass::forward));
}

std::size_t winograd_packed_size(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape,
                                 ConvPass pass) {
  const WinogradShape s = winograd_shape(shape, pass);
  return static_cast<std::size_t>(maps.filters * maps.filters * ceil_div(s.outputs, kernel.panel) *
                                  kernel.panel * s.inputs);
}

namespace {

/// Calls body(panel, input, taps) for all panels of `width` outputs and all inputs, several threads at once:
/// taps [9][width], turned round for the input's gradient, zero beyond the outputs.
template <class Body>
void for_each_filter(const WinogradShape& s, ConvPass pass, std::int64_t width, const float* w,
                     const std::int64_t* w_strides, const Body& body) {
  const bool forward = pass == ConvPass::forward;
  const std::int64_t out_stride = w_strides[forward ? 0 : 1], in_stride = w_strides[forward ? 1 : 0];
  parallel_for(ceil_div(s.outputs, width) * s.inputs, 16, [&](std::int64_t begin, std::int64_t end) {
    static thread_local Scratch<float> scratch;
    float* taps = scratch.get(static_cast<std::size_t>(9 * width));
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t panel = i / s.inputs, input = i % s.inputs;
      const std::int64_t columns = std::min(width, s.outputs - panel * width);
      for (std::int64_t t = 0; t < 9; ++t) {
        const std::int64_t tap = forward ? t : 8 - t;
        const float* from = w + panel * width * out_stride + input * in_stride + tap / 3 * w_strides[2] +
                            tap % 3 * w_strides[3];
        for (std::int64_t j = 0; j < columns; ++j) taps[t * width + j] = from[j * out_stride];
        std::fill(taps + t * width + columns, taps + (t + 1) * width, 0.0f);
      }
      body(panel, input, taps);
    }
  });
}

}  // namespace

void winograd_pack(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, ConvPass pass,
                   float* packed, const float* w, const std::int64_t* w_strides) {
  const WinogradShape s = winograd_shape(shape, pass);
  const std::int64_t width = kernel.panel;
  const std::int64_t piece = s.inputs * width, plane = ceil_div(s.outputs, width) * piece;
  for_each_filter(s, pass, width, w, w_strides,
                  [&](std::int64_t panel, std::int64_t input, const float* taps) {
                    maps.filter(taps, width, width, packed + panel * piece + input * width, plane);
                  });
}

std::size_t winograd_few_packed_size(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass) {
  const WinogradShape s = winograd_shape(shape, pass);
  return static_cast<std::size_t>(ceil_div(s.outputs, kernel.lanes) * kernel.lanes * 9 * s.inputs);
}

void winograd_few_pack(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass, float* packed,
                       const float* w, const std::int64_t* w_strides) {
  const WinogradShape s = winograd_shape(shape, pass);
  const std::int64_t width = kernel.lanes;
  for_each_filter(s, pass, width, w, w_strides,
                  [&](std::int64_t panel, std::int64_t input, const float* taps) {
                    std::copy_n(taps, 9 * width, packed + (panel * s.inputs + input) * 9 * width);
                  });
}

}  // namespace grapnel::kernels
