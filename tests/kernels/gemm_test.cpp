// Every matrix product that runs here against the double-precision reference.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "grapnel/kernels/kernels.h"
#include "kernel_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;
using Index = std::int64_t;

namespace {

/// How a matrix lies in memory.
enum class Order { rows, columns, spaced };

struct Strides {
  Index row, col;
  Index room;  // elements the matrix spans
};

Strides strides_of(Order order, Index rows, Index cols) {
  switch (order) {
    case Order::rows:
      return {cols + 3, 1, rows * (cols + 3)};
    case Order::columns:
      return {1, rows + 1, cols * (rows + 1)};
    default:
      return {2 * cols + 1, 2, rows * (2 * cols + 1)};
  }
}

struct Case {
  Gemm shape;
  std::vector<float> a, b, bias;
  std::vector<double> c, size;  // the answer, and the sums of magnitudes behind it
};

Case make_case(Index m, Index n, Index k, Order a_order, Order b_order, bool with_bias, bool relu = false) {
  const Strides a = strides_of(a_order, m, k), b = strides_of(b_order, k, n);
  Case test{{m, n, k, a.row, a.col, b.row, b.col, n + 5},
            random_values(a.room, 1),
            random_values(b.room, 2),
            {},
            {},
            {}};
  if (with_bias) test.bias = random_values(n, 3);
  test.shape.relu = relu;
  test.c.assign(static_cast<std::size_t>(m * (n + 5)), 0.0);
  test.size = test.c;
  const auto gemm = reference_table().f64.gemm;
  gemm(test.shape, test.c.data(), widened(test.a).data(), widened(test.b).data(),
       with_bias ? widened(test.bias).data() : nullptr);
  Gemm magnitude = test.shape;
  magnitude.relu = false;
  gemm(magnitude, test.size.data(), magnitudes(test.a).data(), magnitudes(test.b).data(),
       with_bias ? magnitudes(test.bias).data() : nullptr);
  return test;
}

std::vector<float> run(const Table& table, const Case& test) {
  std::vector<float> c(test.c.size(), std::numeric_limits<float>::quiet_NaN());
  for (Index i = 0; i < test.shape.m; ++i) {  // the gap between rows must stay as it is
    for (Index j = test.shape.n; j < test.shape.c_row; ++j)
      c[static_cast<std::size_t>(i * test.shape.c_row + j)] = 0;
  }
  table.f32.gemm(test.shape, c.data(), test.a.data(), test.b.data(),
                 test.bias.empty() ? nullptr : test.bias.data());
  return c;
}

void check(const Case& test) {
  CAPTURE(test.shape.m);
  CAPTURE(test.shape.n);
  CAPTURE(test.shape.k);
  CAPTURE(test.shape.a_row);
  CAPTURE(test.shape.b_row);
  for (const Table* table : tables()) {
    CAPTURE(table->name);
    set_num_threads(1);
    const std::vector<float> one = run(*table, test);
    CHECK(worst_error(one, test.c, test.size, test.shape.k) <= 1);
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      CHECK_MESSAGE(run(*table, test) == one, threads, " threads");
    }
    set_num_threads(0);
  }
}

}  // namespace

TEST_CASE("gemm: a product small enough to do by hand") {
  const std::vector<float> a{1, 2, 3, 4}, b{5, 6, 7, 8}, bias{100, 200};
  for (const Table* table : tables()) {
    CAPTURE(table->name);
    std::vector<float> c(4);
    table->f32.gemm({2, 2, 2, 2, 1, 2, 1, 2}, c.data(), a.data(), b.data(), bias.data());
    CHECK(c == std::vector<float>{119, 222, 143, 250});
    table->f32.gemm({2, 2, 2, 1, 2, 1, 2, 2}, c.data(), a.data(), b.data(), nullptr);  // both transposed
    CHECK(c == std::vector<float>{1 * 5 + 3 * 6, 1 * 7 + 3 * 8, 2 * 5 + 4 * 6, 2 * 7 + 4 * 8});
  }
}

TEST_CASE("gemm: small sizes, every order of A and B, with and without bias") {
  for (const Index m : {0, 1, 3, 5, 17}) {
    for (const Index n : {0, 1, 5, 33, 65}) {
      for (const Index k : {0, 1, 4, 31}) {
        for (const Order a : {Order::rows, Order::columns, Order::spaced}) {
          for (const Order b : {Order::rows, Order::columns, Order::spaced}) {
            for (const bool bias : {false, true}) check(make_case(m, n, k, a, b, bias));
          }
        }
      }
    }
  }
}

TEST_CASE("gemm: ReLU in the end, NaN stays NaN") {
  for (const Index m : {1, 5, 33}) {
    check(make_case(m, 33, 31, Order::rows, Order::columns, true, true));
    check(make_case(m, 1100, 31, Order::rows, Order::rows, false, true));
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Table* table : tables()) {
    CAPTURE(table->name);
    std::vector<float> c(3);
    const float b[] = {nan, -1, 2}, one = 1;
    Gemm shape{1, 3, 1, 1, 1, 3, 1, 3};
    shape.relu = true;
    table->f32.gemm(shape, c.data(), &one, b, nullptr);
    CHECK(std::isnan(c[0]));
    CHECK(c[1] == 0);
    CHECK(c[2] == 2);
  }
}

TEST_CASE("gemm: sizes beyond one block of each dimension") {
  check(make_case(130, 70, 300, Order::rows, Order::rows, true));
  check(make_case(127, 33, 513, Order::columns, Order::columns, true));
  check(make_case(29, 1100, 65, Order::rows, Order::columns, false));
  check(make_case(2, 1100, 1030, Order::rows, Order::columns, true));
  check(make_case(3, 2500, 70, Order::rows, Order::rows, true));
  check(make_case(90, 1500, 3, Order::columns, Order::rows, false));
}
