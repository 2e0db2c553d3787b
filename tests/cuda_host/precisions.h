// The ways to multiply, for tests of all or some of them.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "grapnel/kernels/common/hopper.cuh"
#include "grapnel/kernels/common/precision.h"

namespace grapnel::cuda_host {

using kernels::Precision;

template <class Body>
void in_every_precision(const Body& body) {
  for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16}) {
    CAPTURE(static_cast<int>(precision));
    kernels::set_precision(precision);
    body(precision);
  }
  kernels::set_precision(Precision::fp32);
}

template <class Body>
void on_hopper(const Body& body) {
  const WithHopper hopper;
  in_every_precision(body);
}

/// To as many bits of fraction as operands have, to nearest, ties to even.
inline std::vector<float> rounded_to(std::vector<float> values, Precision precision) {
  if (precision == Precision::fp32) return values;
  const int bits = precision == Precision::tf32 ? 11 : 8;
  for (float& value : values) {
    int exponent = 0;
    std::frexp(value, &exponent);
    value = std::ldexp(std::nearbyint(std::ldexp(value, bits - exponent)), exponent - bits);
  }
  return values;
}

}  // namespace grapnel::cuda_host
