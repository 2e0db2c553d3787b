// What the tests of the engine on a device share.
#pragma once

#include <doctest/doctest.h>

#include <cmath>

#include "grapnel/engine/tensor.h"

namespace grapnel::testing {

inline const Device kCuda = Device::cuda();

/// Begins every case; CTest reports it as skipped then.
#define NEEDS_DEVICE()                  \
  if (cuda_device_count() == 0) {       \
    MESSAGE("skipped: no CUDA device"); \
    return;                             \
  }

/// ||got - expected|| / ||expected||.
inline double distance(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.shape() == expected.shape());
  const auto a = got.to_vector<double>(), b = expected.to_vector<double>();
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm == 0 ? difference : std::sqrt(difference / norm);
}

}  // namespace grapnel::testing
