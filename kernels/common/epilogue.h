// The epilogue of a vector of values, for the loops that end with one (kernels.h has the formula).
#pragma once

#include "grapnel/kernels/common/lanes.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {
namespace {

/// v at element `at` of the output and channel c; with kWhole false only `count` lanes exist.
template <bool kWhole = true>
inline Floats finished(Floats v, const Epilogue<float>& e, std::int64_t at, std::int64_t c,
                       std::int64_t count = 0) {
  Floats operand;
  if (e.scale) {
    load<kWhole>(operand, e.scale + c, count);
    v *= operand;
  }
  if (e.shift) {
    load<kWhole>(operand, e.shift + c, count);
    v += operand;
  }
  if (e.residual) {
    load<kWhole>(operand, e.residual + at, count);
    v += operand;
  }
  if (e.relu) v = v < 0 ? Floats{} : v;
  if (e.mask) {
    load<kWhole>(operand, e.mask + at, count);
    v = operand > 0 ? v : Floats{};
  }
  if (e.after) {
    load<kWhole>(operand, e.after + c, count);
    v *= operand;
  }
  return v;
}

}  // namespace
}  // namespace grapnel::kernels
