// Reading and adding by index, and argmax, on the model of a GPU, against the reference. Sums in order of j
// have the same bits.
#include <doctest/doctest.h>

#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array, cuda_host::numbers, cuda_host::reference;

namespace {

const FloatKernels<float>& cuda() {
  static const FloatKernels<float> table = [] {
    FloatKernels<float> result{};
    fill_index_cuda(result);
    return result;
  }();
  return table;
}

struct Sizes {
  std::int64_t outer, size, count, inner;
};

constexpr Sizes kSizes[] = {
    {1, 1, 1, 1},   {3, 5, 8, 7},   {4, 6, 0, 3},    {0, 3, 2, 2},    {2, 3, 2, 0},
    {300, 4, 1, 1}, {1, 40, 90, 3}, {1, 2, 3, 4100}, {4100, 3, 2, 1}, {1, 1000, 7, 1},
};

std::size_t product(std::int64_t a, std::int64_t b, std::int64_t c) {
  return static_cast<std::size_t>(a * b * c);
}

/// Rounding shows in which order these were added.
std::vector<float> uneven(std::size_t count, unsigned seed) {
  std::vector<float> values = numbers(count, seed);
  for (std::size_t i = 0; i < count; ++i) values[i] *= i % 3 ? 1 : 1e-7f * static_cast<float>(i % 11);
  return values;
}

std::vector<std::int64_t> indices(std::size_t count, std::int64_t size) {
  std::vector<std::int64_t> result(count);
  unsigned seed = 5;
  for (std::int64_t& value : result) value = (seed = seed * 1664525u + 1013904223u) % 65521 % size;
  return result;
}

template <class Kernel>
void compare(Kernel kernel, const Sizes& s, const std::vector<std::int64_t>& index, bool adds) {
  CAPTURE(s.outer);
  CAPTURE(s.count);
  CAPTURE(s.inner);
  const std::vector<float> x = uneven(product(s.outer, s.size, s.inner), 1),
                           y = uneven(product(s.outer, s.count, s.inner), 2);
  std::vector<float> expected = adds ? x : y;
  const Array<float> to(expected), from(adds ? y : x);
  const Array<std::int64_t> dev_index(index);
  (cuda().*kernel)(s.outer, s.size, s.count, s.inner, to.data(), from.data(), dev_index.data());
  (reference().*kernel)(s.outer, s.size, s.count, s.inner, expected.data(), (adds ? y : x).data(),
                        index.data());
  CHECK(to.values() == expected);
}

void compare_argmax(std::int64_t outer, std::int64_t size, std::int64_t inner, const std::vector<float>& x) {
  CAPTURE(outer);
  CAPTURE(size);
  CAPTURE(inner);
  std::vector<std::int64_t> expected(product(outer, 1, inner));
  const Array<float> dev_x(x);
  const Array<std::int64_t> index(expected.size());
  cuda().argmax(outer, size, inner, index.data(), dev_x.data());
  reference().argmax(outer, size, inner, expected.data(), x.data());
  CHECK(index.values() == expected);
}

}  // namespace

TEST_CASE("index_select, index_add, gather, scatter_add: repeated indices add up in order") {
  for (const Sizes& s : kSizes) {
    const auto one_each_j = indices(static_cast<std::size_t>(s.count), s.size),
               like_y = indices(product(s.outer, s.count, s.inner), s.size);
    compare(&FloatKernels<float>::index_select, s, one_each_j, false);
    compare(&FloatKernels<float>::index_add, s, one_each_j, true);
    compare(&FloatKernels<float>::gather, s, like_y, false);
    compare(&FloatKernels<float>::scatter_add, s, like_y, true);
  }
}

TEST_CASE("argmax: the first of equals, NaN the largest, either zero the same") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const auto& [outer, size, inner] : {std::array<std::int64_t, 3>{1, 1, 1},
                                           {5, 10, 1},
                                           {3, 7, 5},
                                           {0, 4, 4},
                                           {2, 4, 0},
                                           {4, 128, 1},
                                           {2, 1000, 3},
                                           {1, 700, 1},
                                           {2, 130, 40}}) {
    const std::size_t count = product(outer, size, inner);
    std::vector<float> x = numbers(count, 4);
    compare_argmax(outer, size, inner, x);  // with ties: there are 256 numbers
    for (float& value : x) value = value > 1.8f ? -0.0f : value > 1.5f ? 0.0f : -std::abs(value) - 1;
    compare_argmax(outer, size, inner, x);
    for (float& value : x) value = -kInf;
    compare_argmax(outer, size, inner, x);
    for (std::size_t i = count / 2; i < count; i += 13) x[i] = i % 2 ? NAN : -NAN;
    for (std::size_t i = count / 3; i < count; i += 17) x[i] = kInf;
    compare_argmax(outer, size, inner, x);
  }
}
