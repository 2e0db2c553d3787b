// What follows values in the same pass, on a GPU; the formula stands in kernels.h.
#pragma once

#include "grapnel/kernels/common/device.cuh"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// v at elements `at` and on of the output, which have channels c and on. Where `width` is more than 1, at, c
/// and all that the epilogue points to are aligned to so many elements.
template <int width>
GRAPNEL_DEVICE device::Vector<float, width> finished(device::Vector<float, width> v, const Epilogue<float>& e,
                                                     std::int64_t at, std::int64_t c) {
  const auto combine = [&](const float* from, std::int64_t i, const auto& f) {
    if (!from) return;
    const auto values = device::load_vector<width>(device::Global<const float>(from), i);
    GRAPNEL_UNROLL for (int k = 0; k < width; ++k) v[k] = f(v[k], values[k]);
  };
  combine(e.scale, c, [](float a, float b) { return a * b; });
  combine(e.shift, c, [](float a, float b) { return a + b; });
  combine(e.residual, at, [](float a, float b) { return a + b; });
  if (e.relu) GRAPNEL_UNROLL for (int k = 0; k < width; ++k) v[k] = v[k] < 0 ? 0 : v[k];
  combine(e.mask, at, [](float a, float b) { return b > 0 ? a : 0; });
  combine(e.after, c, [](float a, float b) { return a * b; });
  return v;
}

/// v at element `at` of the output and channel c.
GRAPNEL_DEVICE float finished(float v, const Epilogue<float>& e, std::int64_t at, std::int64_t c) {
  return finished(device::Vector<float, 1>{{v}}, e, at, c)[0];
}

}  // namespace grapnel::kernels
