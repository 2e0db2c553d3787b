// Packing weights for direct_correlate: [group][panel][r][s][channel][panel columns], zero beyond the last
// column, so that one tile reads its weights as a single stream.
#include <algorithm>

#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/conv2d/correlation.h"
#include "grapnel/kernels/conv2d/direct.h"
#include "grapnel/kernels/gemm/transpose.h"

namespace grapnel::kernels {
namespace {

/// One panel of one group, and where its weights come from.
struct PanelSource {
  const float* w;                    // first output, first input, element (0, 0)
  std::int64_t output, input, r, s;  // strides
  std::int64_t columns;
};

/// Weights of each output in one piece of memory, in the order (c, r, s) or (r, s, c): blocks of it are
/// transposed.
bool pack_contiguous(const MicroKernel& kernel, const Correlation& c, const PanelSource& from, float* to) {
  const std::int64_t taps = c.h.taps * c.w.taps, elements = taps * c.inputs;
  const bool in_order = c.h.element_step == 1 && c.w.element_step == 1;
  const bool taps_last = from.s == 1 && from.r == c.w.taps && from.input == taps;
  const bool inputs_last = from.input == 1 && from.s == c.inputs && from.r == c.w.taps * c.inputs;
  if (!in_order || !(taps_last || inputs_last)) return false;
  std::int64_t channel = 0, tap = 0;  // of element e when the taps come last
  for (std::int64_t e = 0; e < elements; e += kernel.lanes) {
    const std::int64_t count = std::min<std::int64_t>(kernel.lanes, elements - e);
    float* out[kMaxLanes];
    for (std::int64_t i = 0; i < count; ++i) {
      out[i] = to + (inputs_last ? e + i : tap * c.inputs + channel) * kernel.panel;
      if (++tap == taps) {
        tap = 0;
        ++channel;
      }
    }
    for (std::int64_t j = 0; j < from.columns; j += kernel.lanes) {
      const std::int64_t width = std::min<std::int64_t>(kernel.lanes, from.columns - j);
      const float* in[kMaxLanes];
      for (std::int64_t i = 0; i < width; ++i) in[i] = from.w + (j + i) * from.output + e;
      transpose(kernel, width, count, in, out);
      for (std::int64_t i = 0; i < count; ++i) out[i] += kernel.lanes;
    }
  }
  return true;
}

/// Any strides.
void pack_strided(const MicroKernel& kernel, const Correlation& c, const PanelSource& from, float* to) {
  // So few channels at a time that the lines of w, which hold neighbouring taps, are still in cache for the
  // next tap.
  constexpr std::int64_t kChannels = 16;
  for (std::int64_t c0 = 0; c0 < c.inputs; c0 += kChannels) {
    const std::int64_t c1 = std::min(c0 + kChannels, c.inputs);
    for (std::int64_t tap = 0; tap < c.h.taps * c.w.taps; ++tap) {
      const std::int64_t r = c.h.element + tap / c.w.taps * c.h.element_step;
      const std::int64_t s = c.w.element + tap % c.w.taps * c.w.element_step;
      for (std::int64_t channel = c0; channel < c1; ++channel) {
        const float* weight = from.w + channel * from.input + r * from.r + s * from.s;
        float* row = to + (tap * c.inputs + channel) * kernel.panel;
        for (std::int64_t j = 0; j < from.columns; ++j) row[j] = weight[j * from.output];
      }
    }
  }
}

}  // namespace

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
  PanelSource source{w, w_strides[forward ? 0 : 1], w_strides[forward ? 1 : 0], w_strides[2], w_strides[3],
                     0};
  const std::int64_t group_stride = shape.k / shape.groups * w_strides[0];

  for (std::int64_t i = 0; i < correlation_count(shape, pass); ++i) {
    const Correlation c = correlation(shape, pass, kernel.panel, i);
    const std::int64_t panels = c.panels(kernel.panel), panel_size = c.depth() * kernel.panel;
    parallel_for(c.groups * panels, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        const std::int64_t first = p % panels * kernel.panel;
        PanelSource from = source;
        from.w += p / panels * group_stride + first * from.output;
        from.columns = std::min<std::int64_t>(kernel.panel, c.outputs - first);
        float* to = packed + c.packed + p * panel_size;
        if (from.columns < kernel.panel) std::fill(to, to + panel_size, 0.0f);
        if (!pack_contiguous(kernel, c, from, to)) pack_strided(kernel, c, from, to);
      }
    });
  }
}

}  // namespace grapnel::kernels
