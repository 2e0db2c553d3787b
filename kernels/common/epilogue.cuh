// What follows values in the same pass, on a GPU; the formula stands in kernels.h.
#pragma once

#include "grapnel/kernels/common/grid.cuh"
#include "grapnel/kernels/common/parts.cuh"

namespace grapnel::kernels {

/// v at elements `at` and on of the output, which have channels c and on. Where `width` is more than 1, at, c
/// and all that the epilogue points to are aligned to so many elements.
template <int width, class T>
GRAPNEL_DEVICE device::Vector<float, width> finished(device::Vector<float, width> v,
                                                     const Epilogue<T, float>& e, std::int64_t at,
                                                     std::int64_t c) {
  const auto combine = [&](const auto* from, std::int64_t i, const auto& f) {
    if (!from) return;
    const auto values = load_floats<width>(device::Global(from), i);
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

/// out at element `at` of `elements` and channel c = the epilogue of v, and its parts, three, if they are
/// wanted.
template <int width, class T>
GRAPNEL_DEVICE void store_finished(device::Global<T> out, std::int64_t elements,
                                   const device::Vector<float, width>& v, const Epilogue<T, float>& e,
                                   std::int64_t at, std::int64_t c) {
  const auto values = finished(v, e, at, c);
  store_floats(out, at, values);
  if (!e.parts.result) return;
  const device::Global<device::BFloat16> parts(reinterpret_cast<device::BFloat16*>(e.parts.result));
  store_parts<AsFp32>(parts, at, elements, values);
}

template <int width, class To, class From>
GRAPNEL_KERNEL(kBlockThreads)
epilogue_kernel(std::int64_t count, std::int64_t channels, Epilogue<To, float> epilogue, device::Global<To> y,
                device::Global<const From> x) {
  device::after_previous();
  const std::int64_t i = width * element();
  if (i < count) store_finished(y, count, load_floats<width>(x, i), epilogue, i, i % channels);
}

/// y = the epilogue of x, dense (rows, channels).
template <class To, class From>
void finish_rows(std::int64_t rows, std::int64_t channels, To* y, const From* x,
                 const Epilogue<To, float>& e) {
  const std::int64_t count = rows * channels;
  const auto run = [&]<int width>() {
    launch_each("epilogue", count / width, epilogue_kernel<width, To, From>, count, channels, e, y, x);
  };
  channels % 4 == 0 && aligned_for_four(y, x, e.scale, e.shift, e.residual, e.mask, e.after)
      ? run.template operator()<4>()
      : run.template operator()<1>();
}

}  // namespace grapnel::kernels
