#include "grapnel/kernels/conv2d/correlation.h"

#include <numeric>

namespace grapnel::kernels {
namespace {

/// One axis of the layer: extents of input, output and kernel.
struct LayerAxis {
  std::int64_t in, out, kernel, stride, pad, dil;
};

Axis forward_axis(const LayerAxis& l) {
  return {l.in, l.out, l.stride, -l.pad, l.dil, l.kernel, l.out, 0, 1, 0, 1};
}

/// Input position i = phase + o * stride receives dy[(i + pad - r * dil) / stride] from each kernel element r
/// that divides evenly. Those r are equally spaced; taken downwards, they read dy upwards.
Axis input_grad_axis(const LayerAxis& l, std::int64_t phase) {
  Axis axis{};
  axis.in = l.out;
  axis.out = phase < l.in ? (l.in - phase + l.stride - 1) / l.stride : 0;
  axis.stride = 1;
  axis.length = l.in;
  axis.place = phase;
  axis.place_step = l.stride;
  const std::int64_t common = std::gcd(l.stride, l.dil);
  axis.step = l.dil / common;
  axis.element_step = -l.stride / common;
  for (std::int64_t r = 0; r < l.kernel; ++r) {
    const std::int64_t distance = phase + l.pad - r * l.dil;
    if (distance % l.stride != 0) continue;
    ++axis.taps;
    axis.element = r;
    axis.first = distance / l.stride;
  }
  return axis;
}

}  // namespace

std::int64_t correlation_count(const Conv2d& shape, ConvPass pass) {
  return pass == ConvPass::forward ? 1 : shape.stride_h * shape.stride_w;
}

Correlation correlation(const Conv2d& p, ConvPass pass, int panel, std::int64_t index) {
  const LayerAxis h{p.h, p.oh, p.r, p.stride_h, p.pad_h, p.dil_h};
  const LayerAxis w{p.w, p.ow, p.s, p.stride_w, p.pad_w, p.dil_w};
  if (pass == ConvPass::forward) {
    return {forward_axis(h), forward_axis(w), p.n, p.groups, p.c / p.groups, p.k / p.groups, 0};
  }
  Correlation at{{}, {}, p.n, p.groups, p.k / p.groups, p.c / p.groups, 0};
  for (std::int64_t i = 0;; ++i) {
    at.h = input_grad_axis(h, i / p.stride_w);
    at.w = input_grad_axis(w, i % p.stride_w);
    if (i == index) return at;
    at.packed += p.groups * at.panels(panel) * at.depth() * panel;
  }
}

}  // namespace grapnel::kernels
