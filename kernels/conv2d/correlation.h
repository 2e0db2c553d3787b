// One description for the forward convolution and the gradient of its input: both are correlations,
//   out[oh, ow, j] = sum over taps (r, s) and channels c of in[at(oh, r), at(ow, s), c] * w[r, s, c, j].
//
// The gradient of a layer of stride s is s*s of them: the input pixels h = phase, phase + s, ... are reached
// by one subset of the kernel, and over those the sum of dy is an ordinary correlation of stride 1. Read
// next: band.h (borders and caches), then correlate.cpp.
#pragma once

#include <cstdint>

#include "grapnel/kernels/gemm/microkernel.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// Output o reads input o * stride + first + t * step for every tap t; outside [0, in) that is zero.
struct Axis {
  std::int64_t in, out, stride, first, step, taps;
  // Output o is position place + o * place_step of `length`; tap t is kernel element `element + t *
  // element_step`.
  std::int64_t length, place, place_step;
  std::int64_t element, element_step;
};

struct Correlation {
  Axis h, w;
  std::int64_t images, groups;
  std::int64_t inputs, outputs;  // channels per group
  std::int64_t packed;           // where its packed weights begin: [groups][panels][r][s][inputs][panel]

  std::int64_t panels(int panel) const { return (outputs + panel - 1) / panel; }
  std::int64_t depth() const { return h.taps * w.taps * inputs; }
};

/// How many correlations make up a pass, and the i-th of them.
std::int64_t correlation_count(const Conv2d& shape, ConvPass pass);
Correlation correlation(const Conv2d& shape, ConvPass pass, int panel, std::int64_t index);

}  // namespace grapnel::kernels
