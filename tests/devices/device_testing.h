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

/// ||got - expected|| / ||expected||, over all tensors of a list together; ||got|| if nothing was expected.
inline double distance(const Tensors& got, const Tensors& expected) {
  REQUIRE(got.size() == expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    REQUIRE(got[i].shape() == expected[i].shape());
    const auto a = got[i].to_vector<double>(), b = expected[i].to_vector<double>();
    for (std::size_t k = 0; k < a.size(); ++k) {
      difference += (a[k] - b[k]) * (a[k] - b[k]);
      norm += b[k] * b[k];
    }
  }
  return std::sqrt(norm == 0 ? difference : difference / norm);
}
inline double distance(const Tensor& got, const Tensor& expected) {
  return distance(Tensors{got}, Tensors{expected});
}

}  // namespace grapnel::testing
