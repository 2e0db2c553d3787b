// Numbers to feed kernels with, and how results are compared with those of the CPU's reference table.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <string_view>
#include <vector>

#include "grapnel/kernels/kernels.h"

namespace grapnel::cuda_host {

/// Between -2 and 2, with few bits: exact in TF32 and bfloat16.
inline std::vector<float> numbers(std::size_t count, unsigned seed = 1) {
  std::vector<float> result(count);
  for (float& value : result) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(seed >> 16 & 0xff) / 64 - 2;
  }
  return result;
}

/// The definition of everything, summed in double.
inline const kernels::FloatKernels<float>& reference() {
  int count = 0;
  const kernels::Table* const* tables = kernels::cpu_tables(&count);
  REQUIRE(std::string_view(tables[count - 1]->name) == "reference");
  return tables[count - 1]->f32;
}

/// Equal but for `roundings` roundings of the largest expected value. One check for all elements, which says
/// where the worst is.
inline void check_close(const std::vector<float>& got, const std::vector<float>& expected, double roundings) {
  REQUIRE(got.size() == expected.size());
  double largest = 0, worst = 0;
  std::size_t at = 0;
  for (const float value : expected) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(expected[i])) continue;
    if (got[i] == expected[i]) continue;
    const double error = std::abs(static_cast<double>(got[i]) - expected[i]);
    if (error > worst || std::isnan(error)) {
      worst = std::isnan(error) ? INFINITY : error;
      at = i;
    }
  }
  CAPTURE(at);
  CAPTURE(got.empty() ? 0 : got[at]);
  CAPTURE(expected.empty() ? 0 : expected[at]);
  CHECK(worst <= roundings * 6e-8 * largest);
}

}  // namespace grapnel::cuda_host
