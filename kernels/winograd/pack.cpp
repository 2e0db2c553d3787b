// The filters' map, once per version of the weights: [panel of outputs][place][input][panel], zero beyond the
// outputs, as the micro-kernel reads it.
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/winograd/tiles.h"

namespace grapnel::kernels {

bool winograd_applies(const Conv2d& p) {
  return p.r == 3 && p.s == 3 && p.stride_h == 1 && p.stride_w == 1 && p.dil_h == 1 && p.dil_w == 1 &&
         p.groups == 1 && p.pad_h <= 2 && p.pad_w <= 2;
}

std::size_t winograd_packed_size(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape,
                                 ConvPass pass) {
  const WinogradShape s = winograd_shape(shape, pass);
  return static_cast<std::size_t>(ceil_div(s.outputs, kernel.panel) * kernel.panel * maps.places() *
                                  s.inputs);
}

void winograd_pack(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, ConvPass pass,
                   float* packed, const float* w, const std::int64_t* w_strides) {
  const WinogradShape s = winograd_shape(shape, pass);
  const bool forward = pass == ConvPass::forward;
  const std::int64_t out_stride = w_strides[forward ? 0 : 1], in_stride = w_strides[forward ? 1 : 0];
  const std::int64_t panel = kernel.panel, panels = ceil_div(s.outputs, panel);
  parallel_for(panels * s.inputs, 16, [&](std::int64_t begin, std::int64_t end) {
    static thread_local Scratch<float> scratch;
    float* taps = scratch.get(static_cast<std::size_t>(9 * panel));
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t p = i / s.inputs, input = i % s.inputs;
      const std::int64_t columns = std::min(panel, s.outputs - p * panel);
      for (std::int64_t t = 0; t < 9; ++t) {
        const std::int64_t tap = forward ? t : 8 - t;  // the gradient's filters are turned round
        const float* from =
            w + p * panel * out_stride + input * in_stride + tap / 3 * w_strides[2] + tap % 3 * w_strides[3];
        for (std::int64_t j = 0; j < columns; ++j) taps[t * panel + j] = from[j * out_stride];
        std::fill(taps + t * panel + columns, taps + (t + 1) * panel, 0.0f);
      }
      maps.filter(taps, panel, panel, packed + (p * maps.places() * s.inputs + input) * panel,
                  s.inputs * panel);
    }
  });
}

}  // namespace grapnel::kernels
