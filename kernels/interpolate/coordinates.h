// Where an output pixel looks in the input, along one axis, on any device. The formulas are PyTorch's; see
// README.md.
#pragma once

#include <algorithm>
#include <cstdint>

namespace grapnel::kernels {

/// The source coordinate of output `o`, in input pixels.
constexpr double source_coordinate(std::int64_t o, std::int64_t in, std::int64_t out, bool align_corners) {
  const double i = static_cast<double>(in), count = static_cast<double>(out), at = static_cast<double>(o);
  if (align_corners) return out > 1 ? at * (i - 1) / (count - 1) : 0;
  return std::max(0.0, (at + 0.5) * (i / count) - 0.5);
}

/// PyTorch computes this in float, and so it is part of the definition.
constexpr std::int64_t nearest_source(std::int64_t o, std::int64_t in, std::int64_t out) {
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  return std::min(in - 1, static_cast<std::int64_t>(static_cast<float>(o) * scale));
}

}  // namespace grapnel::kernels
