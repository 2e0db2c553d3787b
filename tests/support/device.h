// On which device test cases run, and which of them cannot.
//
// GRAPNEL_TEST_DEVICE (main.cpp) is the default device of a run: "cpu", or "cuda", which is a GPU or, in the
// programs linked for it, the model of one. A case that makes its tensors without naming a device and looks
// at them through item and to_vector runs on all of them.
#pragma once

#include <doctest/doctest.h>

namespace grapnel::testing {

inline constexpr const char* kOnCpuOnly = "on the CPU only";
inline constexpr const char* kNotOnModel = "not on the model of a GPU";

/// TEST_CASE("..." * on_cpu_only("float64")): what it tests is not there on a device, for this reason.
struct on_cpu_only {
  const char* reason;
  explicit on_cpu_only(const char* why) : reason(why) {}
  void fill(doctest::detail::TestCase& test_case) const {
    test_case.m_test_suite = kOnCpuOnly;
    test_case.m_description = reason;
  }
};

/// Runs on the CPU and on a GPU; the model would take too long.
struct not_on_model {
  const char* reason;
  explicit not_on_model(const char* why) : reason(why) {}
  void fill(doctest::detail::TestCase& test_case) const {
    test_case.m_test_suite = kNotOnModel;
    test_case.m_description = reason;
  }
};

}  // namespace grapnel::testing
