// On which devices test cases run, and what differs between them.
//
// GRAPNEL_TEST_DEVICE is the default device of a run (../main.cpp): "cpu", or "cuda", which is a GPU or, in
// the programs linked with it, the model of one. A case that names no device and looks at tensors through
// item and to_vector runs on all of them; another says by a decorator why it does not.
#pragma once

#include <doctest/doctest.h>

#include <vector>

#include "grapnel/engine/device.h"
#include "grapnel/engine/dtype.h"

namespace grapnel::testing {

inline constexpr const char* kOnCpuOnly = "on the CPU only";
inline constexpr const char* kNotOnModel = "not on the model of a GPU";

/// A decorator puts its case into a suite, by which main.cpp and CTest choose.
struct Limit {
  const char* suite;
  const char* reason;

  void fill(doctest::detail::TestCase& test_case) const {
    test_case.m_test_suite = suite;
    test_case.m_description = reason;
  }
};

/// TEST_CASE("..." * on_cpu_only("float64")): what it tests is nowhere else.
inline Limit on_cpu_only(const char* reason) {
  return {kOnCpuOnly, reason};
}
/// Runs on the CPU and on GPUs, but not on the model: it would take minutes, or needs what the model has not.
inline Limit not_on_model(const char* reason) {
  return {kNotOnModel, reason};
}

inline bool on_cpu() {
  return default_device() == Device::cpu();
}

/// The types that the default device computes with, the finest last.
inline std::vector<DType> float_types() {
  return on_cpu() ? std::vector{DType::float32, DType::float64} : std::vector{DType::float32};
}
inline DType finest_type() {
  return float_types().back();
}

/// From 1 to the next number.
inline double epsilon(DType type) {
  return type == DType::float32 ? 0x1p-23 : 0x1p-52;
}

}  // namespace grapnel::testing
