// What follows values in the same pass, on a GPU; the formula stands in kernels.h.
#pragma once

#include "grapnel/kernels/common/parts.cuh"
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

/// out at element `at` of `elements` and channel c = the epilogue of v, and its parts if they are wanted.
template <int width>
GRAPNEL_DEVICE void store_finished(device::Global<float> out, std::int64_t elements,
                                   const device::Vector<float, width>& v, const Epilogue<float>& e,
                                   std::int64_t at, std::int64_t c) {
  const auto values = finished(v, e, at, c);
  device::store_vector(out, at, values);
  if (!e.parts.result) return;
  const device::Global<device::BFloat16> parts(reinterpret_cast<device::BFloat16*>(e.parts.result));
  e.parts.count == 1 ? store_parts<AsBf16>(parts, at, elements, values)
                     : store_parts<AsFp32>(parts, at, elements, values);
}

}  // namespace grapnel::kernels
