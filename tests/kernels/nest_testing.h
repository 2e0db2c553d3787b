// Strided operands for the kernel tests, walked by plain counting, and the promise that threads do not change
// a bit.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "grapnel/kernels/kernels.h"

namespace grapnel::testing {

using Index = std::vector<std::int64_t>;

/// Calls body(index) for every index of a box, the last one running fastest.
template <class Body>
void for_each_index(const Index& sizes, const Body& body) {
  for (std::int64_t size : sizes) {
    if (size == 0) return;
  }
  Index index(sizes.size(), 0);
  while (true) {
    body(index);
    std::size_t d = sizes.size();
    while (d > 0 && ++index[d - 1] == sizes[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

inline std::int64_t offset(const Index& index, const Index& strides) {
  std::int64_t result = 0;
  for (std::size_t d = 0; d < index.size(); ++d) result += index[d] * strides[d];
  return result;
}

/// Elements a buffer needs for this box of non-negative strides.
inline std::size_t extent(const Index& sizes, const Index& strides) {
  std::int64_t last = 0;
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] == 0) return 0;
    last += (sizes[d] - 1) * strides[d];
  }
  return static_cast<std::size_t>(last + 1);
}

/// One box of sizes with the strides of several operands, the output first.
template <int Operands>
struct Nest {
  Index sizes;
  Index strides[Operands];

  kernels::Loops<Operands> loops() const {
    kernels::Loops<Operands> result{};
    result.rank = static_cast<int>(sizes.size());
    for (std::size_t d = 0; d < sizes.size(); ++d) {
      result.sizes[d] = sizes[d];
      for (int k = 0; k < Operands; ++k) result.strides[k][d] = strides[k][d];
    }
    return result;
  }
  std::size_t extent_of(int operand) const { return extent(sizes, strides[operand]); }
};

/// Runs `run`, which returns a vector, with one, two, three and seven threads; fails unless all agree to the
/// bit.
template <class Run>
auto same_for_any_threads(const Run& run) {
  const int before = kernels::num_threads();
  kernels::set_num_threads(1);
  const auto first = run();
  for (int threads : {2, 3, 7}) {
    CAPTURE(threads);
    kernels::set_num_threads(threads);
    const auto other = run();
    REQUIRE(other.size() == first.size());
    if (!first.empty()) CHECK(std::memcmp(other.data(), first.data(), first.size() * sizeof(first[0])) == 0);
  }
  kernels::set_num_threads(before);
  return first;
}

/// Equal, or both NaN, or no further apart than `allowed`.
inline bool agree(double got, double want, double allowed = 0) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got);
  return got == want || std::abs(got - want) <= allowed;
}

}  // namespace grapnel::testing
