// Elementwise functions on the model of a GPU, against the reference: the same formulas and C library, so the
// same bits, NaN aside.
#include <doctest/doctest.h>

#include <bit>
#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/elementwise/nest.cuh"
#include "kernels/nest_testing.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;
using testing::Nest;

namespace {

const FloatKernels<float>& cuda() {
  static const FloatKernels<float> table = [] {
    FloatKernels<float> result{};
    fill_elementwise_cuda(result);
    return result;
  }();
  return table;
}

constexpr int kUnaryCount = static_cast<int>(Unary::affine) + 1;
constexpr int kBinaryCount = static_cast<int>(Binary::relu_grad) + 1;

/// Special values among ordinary ones, every `step`-th.
std::vector<float> operand(std::size_t count, unsigned seed, std::size_t step) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float special[] = {0, NAN, -0.0f, 1, kInf, -1, -kInf, 1e-40f, -3e38f, 0.5f, 2};
  std::vector<float> values = cuda_host::numbers(count, seed);
  for (std::size_t i = 0; i * step < count; ++i) values[i * step] = special[i % std::size(special)];
  return values;
}

void check_same(const std::vector<float>& got, const std::vector<float>& expected) {
  int different = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    different += std::isnan(expected[i])
                     ? !std::isnan(got[i])
                     : std::bit_cast<std::uint32_t>(got[i]) != std::bit_cast<std::uint32_t>(expected[i]);
  CHECK(different == 0);
}

const std::vector<Nest<3>>& nests() {
  static const std::vector<Nest<3>> list = {
      {{0}, {{1}, {1}, {1}}},
      {{1}, {{1}, {1}, {1}}},
      {{77}, {{1}, {1}, {1}}},
      {{1028}, {{1}, {1}, {1}}},
      {{77}, {{1}, {1}, {0}}},
      {{78}, {{1}, {0}, {1}}},
      {{19}, {{1}, {0}, {0}}},
      {{19}, {{2}, {3}, {1}}},
      {{3, 0, 5}, {{5, 5, 1}, {5, 5, 1}, {5, 5, 1}}},
      {{6, 36}, {{36, 1}, {36, 1}, {0, 1}}},  // a bias
      {{6, 36}, {{36, 1}, {36, 1}, {1, 0}}},  // one value a row
      {{6, 37}, {{40, 1}, {44, 1}, {0, 1}}},  // vectors, and what is left of a row
      {{6, 35}, {{40, 1}, {35, 1}, {0, 1}}},  // rows of x at any address
      {{6, 35}, {{35, 1}, {1, 6}, {1, 0}}},   // x transposed
      {{4, 8}, {{1, 4}, {1, 4}, {8, 1}}},     // out not dense along the last dimension
      {{3, 5, 16}, {{80, 16, 1}, {16, 48, 1}, {0, 4, 0}}},
      {{2, 3, 1, 4, 5}, {{60, 20, 20, 5, 1}, {1, 2, 6, 6, 24}, {5, 0, 7, 0, 1}}},
  };
  return list;
}

/// Calls body(offset) to try operands that begin at a vector, and one element behind.
template <class Body>
void at_any_address(const Body& body) {
  for (const std::size_t offset : {std::size_t{0}, std::size_t{1}}) {
    CAPTURE(offset);
    body(offset);
  }
}

void compare_unary(const Nest<3>& nest, double a, double b) {
  const Nest<2> two = {nest.sizes, {nest.strides[0], nest.strides[1]}};
  at_any_address([&](std::size_t offset) {
    const std::vector<float> x = operand(two.extent_of(1) + offset, 3, 3);
    const std::vector<float> before(two.extent_of(0) + 1, 77);
    const Array<float> dev_x(x);
    for (int op = 0; op < kUnaryCount; ++op) {
      CAPTURE(op);
      std::vector<float> expected = before;
      const Array<float> out(before);
      cuda().unary(Unary(op), two.loops(), out.data(), dev_x.data() + offset, a, b);
      cuda_host::reference().unary(Unary(op), two.loops(), expected.data(), x.data() + offset, a, b);
      check_same(out.values(), expected);
    }
  });
}

void compare_binary(const Nest<3>& nest) {
  at_any_address([&](std::size_t offset) {
    const std::vector<float> x = operand(nest.extent_of(1), 3, 3), y = operand(nest.extent_of(2), 5, 2);
    const std::vector<float> before(nest.extent_of(0) + offset + 1, 77);
    const Array<float> dev_x(x), dev_y(y);
    for (int op = 0; op < kBinaryCount; ++op) {
      CAPTURE(op);
      std::vector<float> expected = before;
      const Array<float> out(before);
      cuda().binary(Binary(op), nest.loops(), out.data() + offset, dev_x.data(), dev_y.data());
      cuda_host::reference().binary(Binary(op), nest.loops(), expected.data() + offset, x.data(), y.data());
      check_same(out.values(), expected);
    }
  });
}

}  // namespace

TEST_CASE("elementwise functions of one and of two operands, over any strides") {
  for (std::size_t n = 0; n < nests().size(); ++n) {
    CAPTURE(n);
    compare_unary(nests()[n], -0.75, 1.5);
    compare_binary(nests()[n]);
  }
}

TEST_CASE("pow with exponent 2, and clamp with crossed bounds") {
  compare_unary(nests()[2], 2, 0.5);
}

TEST_CASE("elementwise functions may write over an operand") {
  const std::vector<float> x = operand(301, 1, 7), y = operand(301, 2, 5);
  const Nest<3> nest = {{301}, {{1}, {1}, {1}}};
  const Nest<2> two = {{301}, {{1}, {1}}};
  std::vector<float> expected(x.size());
  const Array<float> relu(x), left(x), right(y), twice(x);
  const FloatKernels<float>& reference = cuda_host::reference();

  cuda().unary(Unary::relu, two.loops(), relu.data(), relu.data(), 0, 0);
  reference.unary(Unary::relu, two.loops(), expected.data(), x.data(), 0, 0);
  check_same(relu.values(), expected);

  cuda().binary(Binary::add, nest.loops(), twice.data(), twice.data(), twice.data());
  reference.binary(Binary::add, nest.loops(), expected.data(), x.data(), x.data());
  check_same(twice.values(), expected);

  reference.binary(Binary::sub, nest.loops(), expected.data(), x.data(), y.data());
  cuda().binary(Binary::sub, nest.loops(), right.data(), left.data(), right.data());
  check_same(right.values(), expected);
  const Array<float> again(y);
  cuda().binary(Binary::sub, nest.loops(), left.data(), left.data(), again.data());
  check_same(left.values(), expected);
}

TEST_CASE("which nests are read in vectors") {
  alignas(16) const float data[8] = {};
  const auto vectors = [&](const Nest<3>& nest, std::size_t x_at) {
    return lies_in_vectors(nest.loops(), {data, data + x_at, data}, 4);
  };
  CHECK(vectors({{7}, {{1}, {1}, {1}}}, 0));
  CHECK_FALSE(vectors({{7}, {{1}, {1}, {1}}}, 1));
  CHECK(vectors({{7}, {{1}, {0}, {1}}}, 1));  // a constant may be anywhere
  CHECK(vectors({{6, 37}, {{40, 1}, {44, 1}, {0, 1}}}, 0));
  CHECK_FALSE(vectors({{6, 37}, {{40, 1}, {45, 1}, {0, 1}}}, 0));
  CHECK_FALSE(vectors({{7}, {{1}, {2}, {1}}}, 0));
  CHECK_FALSE(vectors({{7}, {{0}, {1}, {1}}}, 0));
}
