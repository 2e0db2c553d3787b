// Packing weights for direct_correlate: [group][panel][r][s][channel][panel columns], zero beyond the last
// column, so that one tile reads its weights as a single stream.
#include <algorithm>

#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/conv2d/correlation.h"
#include "grapnel/kernels/conv2d/direct.h"

namespace grapnel::kernels {

std::size_t direct_packed_size(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass) {
  std::int64_t size = 0;
  for (std::int64_t i = 0; i < correlation_count(shape, pass); ++i) {
    const Correlation c = correlation(shape, pass, kernel.panel, i);
    size += c.groups * c.panels(kernel.panel) * c.depth() * kernel.panel;
  }
  return static_cast<std::size_t>(size);
}

void direct_pack(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass, float* packed, const float* w,
                 const std::int64_t* w_strides) {
  const bool forward = pass == ConvPass::forward;
  const std::int64_t group_stride = shape.k / shape.groups * w_strides[0];
  const std::int64_t input_stride = w_strides[forward ? 1 : 0], output_stride = w_strides[forward ? 0 : 1];
  const std::int64_t panel = kernel.panel;
  // So few channels at a time that the lines of w, which hold neighbouring taps, are still in cache for the
  // next tap.
  constexpr std::int64_t kChannels = 16;

  for (std::int64_t i = 0; i < correlation_count(shape, pass); ++i) {
    const Correlation c = correlation(shape, pass, kernel.panel, i);
    const std::int64_t panels = c.panels(kernel.panel);
    parallel_for(c.groups * panels, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t at = begin; at < end; ++at) {
        const std::int64_t first = at % panels * panel;
        const std::int64_t columns = std::min(panel, c.outputs - first);
        const float* from = w + at / panels * group_stride + first * output_stride;
        float* to = packed + c.packed + at * c.depth() * panel;
        for (std::int64_t c0 = 0; c0 < c.inputs; c0 += kChannels) {
          const std::int64_t c1 = std::min(c0 + kChannels, c.inputs);
          for (std::int64_t tap = 0; tap < c.h.taps * c.w.taps; ++tap) {
            const std::int64_t r = c.h.element + tap / c.w.taps * c.h.element_step;
            const std::int64_t s = c.w.element + tap % c.w.taps * c.w.element_step;
            for (std::int64_t channel = c0; channel < c1; ++channel) {
              const float* weight = from + channel * input_stride + r * w_strides[2] + s * w_strides[3];
              float* row = to + (tap * c.inputs + channel) * panel;
              for (std::int64_t j = 0; j < columns; ++j) row[j] = weight[j * output_stride];
              std::fill(row + columns, row + panel, 0.0f);
            }
          }
        }
      }
    });
  }
}

}  // namespace grapnel::kernels
