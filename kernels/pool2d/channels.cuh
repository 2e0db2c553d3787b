// Pictures that lie channels last: which values a thread takes, and where they lie. Four neighbouring
// channels where their number and the addresses allow it, so that accesses have 16 bytes and four values
// share the arithmetic of one place; otherwise one.
#pragma once

#include <initializer_list>
#include <limits>
#include <string>
#include <type_traits>

#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {

/// Calls body(width) with the number of channels a thread may take together, as a constant.
template <class Body, class... T>
void with_width(std::int64_t channels, const Body& body, const T*... data) {
  constexpr int kMost = 4;
  const bool aligned = ((reinterpret_cast<std::uintptr_t>(data) % (kMost * sizeof(T)) == 0) && ...);
  if (aligned && channels % kMost == 0)
    body(std::integral_constant<int, kMost>());
  else
    body(std::integral_constant<int, 1>());
}

/// Throws DeviceFault for more than an int counts.
inline std::int64_t int_product(const char* name, std::initializer_list<std::int64_t> sizes) {
  std::int64_t product = 1;
  for (const std::int64_t size : sizes) product *= size;
  if (product > std::numeric_limits<int>::max())
    throw DeviceFault(std::string(name) + ": sizes with a product of " + std::to_string(product));
  return product;
}

struct Place {
  int n, h, w;
  std::int64_t c;
};

/// Of element `at` of pictures of these sizes, whose pixels an int counts.
GRAPNEL_DEVICE Place place_of(std::int64_t at, int height, int width, std::int64_t channels) {
  const auto pixel = static_cast<int>(at / channels);
  const int line = pixel / width;
  return {line / height, line % height, pixel % width, at - pixel * channels};
}
/// The same channel of the same picture, at (h, w) of pictures of other sizes.
GRAPNEL_DEVICE std::int64_t index_of(const Place& p, int h, int w, int height, int width,
                                     std::int64_t channels) {
  return ((p.n * height + h) * width + w) * channels + p.c;
}

}  // namespace grapnel::kernels
