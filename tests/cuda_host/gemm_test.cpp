// The matrix product on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "cuda_host/precisions.h"
#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/gemm/multiply.cuh"
#include "grapnel/kernels/gemm/strided.cuh"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array, cuda_host::in_every_precision;

namespace {

const FloatKernels<float>& cuda() {
  static const FloatKernels<float> table = [] {
    FloatKernels<float> result{};
    fill_gemm_cuda(result);
    return result;
  }();
  return table;
}

/// How an operand lies: dense by rows or by columns; rows with a gap; every third element of a column.
enum class Lies { by_rows, by_columns, with_gaps, apart };

struct Strides {
  std::int64_t row, column;
};
Strides strides_of(Lies how, std::int64_t rows, std::int64_t columns) {
  switch (how) {
    case Lies::by_rows:
      return {columns, 1};
    case Lies::by_columns:
      return {1, rows};
    case Lies::with_gaps:
      return {columns + 5, 1};
    case Lies::apart:
      return {3, 3 * rows + 1};
  }
  return {};
}

struct Operands {
  Gemm shape;
  std::vector<float> a, b, bias;
};

Operands operands(std::int64_t m, std::int64_t n, std::int64_t k, Lies lies_a, Lies lies_b) {
  const Strides a = strides_of(lies_a, m, k), b = strides_of(lies_b, k, n);
  const auto extent = [](Strides s, std::int64_t rows, std::int64_t columns) {
    return rows == 0 || columns == 0
               ? std::size_t{0}
               : static_cast<std::size_t>((rows - 1) * s.row + (columns - 1) * s.column + 1);
  };
  return {{m, n, k, a.row, a.column, b.row, b.column, n + 3},
          cuda_host::numbers(extent(a, m, k), 1),
          cuda_host::numbers(extent(b, k, n), 2),
          cuda_host::numbers(static_cast<std::size_t>(n), 3)};
}

std::vector<float> expected_of(const Operands& o, bool with_bias) {
  std::vector<float> c(static_cast<std::size_t>(o.shape.m * o.shape.c_row), 77);
  cuda_host::reference().gemm(o.shape, c.data(), o.a.data(), o.b.data(), with_bias ? o.bias.data() : nullptr);
  return c;
}

/// What lies between the rows of C is left as it was.
std::vector<float> run(const Operands& o, bool with_bias) {
  const Array<float> a(o.a), b(o.b), bias(o.bias),
      c(std::vector<float>(static_cast<std::size_t>(o.shape.m * o.shape.c_row), 77));
  cuda().gemm(o.shape, c.data(), a.data(), b.data(), with_bias ? bias.data() : nullptr);
  return c.values();
}

/// All are exact in every precision, and so are the products.
void check(const Operands& o, bool with_bias) {
  CAPTURE(o.shape.m);
  CAPTURE(o.shape.n);
  CAPTURE(o.shape.k);
  cuda_host::check_close(run(o, with_bias), expected_of(o, with_bias), 4);
}

/// The same by one kind of tile, in fours whether or not they end with a row.
template <class Multiply, class A, class B>
void check_large(const Operands& o, A left, B right) {
  const Gemm& s = o.shape;
  const Array<float> a(o.a), b(o.b), c(std::vector<float>(static_cast<std::size_t>(s.m * s.c_row), 77));
  left = {a.data(), s.a_row, s.a_col, static_cast<int>(s.m), 0};
  right = {b.data(), s.b_col, s.b_row, static_cast<int>(s.n), 0};
  run_product<Multiply>("gemm", {1, static_cast<int>(s.m), static_cast<int>(s.n), static_cast<int>(s.k), 1},
                        left, right, StoreSum{c.data(), nullptr, s.c_row});
  cuda_host::check_close(c.values(), expected_of(o, false), 4);
}

}  // namespace

TEST_CASE("gemm: sizes of 1, odd, of whole tiles and beyond, in every precision") {
  const std::int64_t sizes[][3] = {{1, 1, 1},    {1, 7, 20},   {7, 1, 33},   {5, 3, 0},
                                   {64, 64, 16}, {65, 67, 18}, {9, 130, 33}, {130, 8, 7}};
  in_every_precision([&](Precision) {
    for (const auto& [m, n, k] : sizes) check(operands(m, n, k, Lies::by_rows, Lies::by_rows), m % 2 == 1);
  });
}

TEST_CASE("gemm: ReLU in the end, of few rows and of many, NaN stays NaN") {
  in_every_precision([](Precision) {
    for (const std::int64_t m : {2, 70}) {
      Operands o = operands(m, 66, 20, Lies::by_rows, Lies::by_columns);
      o.shape.relu = true;
      check(o, true);
      o.b[0] = NAN;
      const std::vector<float> c = run(o, false);
      for (std::size_t at = 0; at < c.size(); at += static_cast<std::size_t>(o.shape.c_row))
        CHECK(std::isnan(c[at]));
    }
  });
}

TEST_CASE("gemm: nothing to do") {
  for (const auto& [m, n] : {std::pair{0, 5}, std::pair{5, 0}})
    check(operands(m, n, 3, Lies::by_rows, Lies::by_rows), true);
}

TEST_CASE("gemm: operands transposed, with gaps, apart, and not aligned") {
  in_every_precision([](Precision) {
    for (const Lies a : {Lies::by_rows, Lies::by_columns, Lies::with_gaps, Lies::apart})
      for (const Lies b : {Lies::by_rows, Lies::by_columns, Lies::with_gaps, Lies::apart}) {
        CAPTURE(static_cast<int>(a));
        CAPTURE(static_cast<int>(b));
        check(operands(36, 20, 20, a, b), false);
      }
  });
  const Operands o = operands(12, 8, 16, Lies::by_rows, Lies::by_columns);
  std::vector<float> shifted_a = o.a, shifted_b = o.b;
  shifted_a.insert(shifted_a.begin(), 99);
  shifted_b.insert(shifted_b.begin(), 99);
  in_every_precision([&](Precision) {
    const Array<float> a(shifted_a), b(shifted_b),
        c(std::vector<float>(static_cast<std::size_t>(12 * o.shape.c_row), 77));
    cuda().gemm(o.shape, c.data(), a.data() + 1, b.data() + 1, nullptr);
    cuda_host::check_close(c.values(), expected_of(o, false), 4);
  });
}

TEST_CASE("gemm: few rows, in float32 whatever the precision") {
  in_every_precision([](Precision precision) {
    for (const std::int64_t m : {1, 2, 4, 5, 8})
      for (const auto& [n, k] : {std::pair{1, 4}, {7, 132}, {33, 128}, {2049, 12}, {9, 0}})
        for (const Lies a : {Lies::by_rows, Lies::with_gaps}) {
          if (n > 2048 && (a == Lies::with_gaps || precision != Precision::fp32)) continue;  // slow to model
          Operands o = operands(m, n, k, a, Lies::by_columns);
          if (a == Lies::with_gaps) {
            o.shape.a_row = k + 8;
            o.a = cuda_host::numbers(static_cast<std::size_t>(m * (k + 8)), 1);
          }
          check(o, n % 2 == 1);
        }
  });
  kernels::set_precision(Precision::bf16);
  Operands o = operands(3, 5, 256, Lies::by_rows, Lies::by_columns);
  for (auto* values : {&o.a, &o.b})
    for (float& value : *values) value = std::sin(100 * value);
  check(o, true);
  kernels::set_precision(Precision::fp32);
}

TEST_CASE("gemm: tiles of 128 x 128 and 128 x 64 by FMAs, which the table takes for large products only") {
  const Operands o = operands(130, 132, 20, Lies::by_rows, Lies::by_columns);
  Operands turned = o;
  turned.shape.a_row = 1, turned.shape.a_col = 132, turned.shape.b_row = 132, turned.shape.b_col = 1;
  turned.a.resize(132 * 20);
  using Along = Strided<float, true, 4>;
  using Across = Strided<float, false, 4>;
  check_large<MultiplyFloat<128, 128>>(o, Along{}, Along{});
  check_large<MultiplyFloat<128, 128>>(turned, Across{}, Across{});
  check_large<MultiplyFloat<128, 64>>(o, Along{}, Along{});
}

TEST_CASE("gemm: any numbers, to the roundings of each precision") {
  in_every_precision([](Precision precision) {
    Operands o = operands(40, 40, 120, Lies::by_rows, Lies::by_columns);
    o.shape.c_row = o.shape.n;
    for (auto* values : {&o.a, &o.b})
      for (float& value : *values) value = std::sin(100 * value);
    const auto got = run(o, false), expected = expected_of(o, false);
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      difference += std::pow(static_cast<double>(got[i]) - expected[i], 2);
      norm += std::pow(static_cast<double>(expected[i]), 2);
    }
    const double error = std::sqrt(difference / norm);
    CHECK(error < (precision == Precision::fp32 ? 1e-6 : precision == Precision::tf32 ? 0x1p-10 : 0x1p-8));
    // Were the operands not rounded at all, or as coarsely as for bfloat16, this would be far off.
    CHECK(error > (precision == Precision::fp32 ? 0 : precision == Precision::tf32 ? 0x1p-14 : 0x1p-11));
  });
}

TEST_CASE("gemm: operands are rounded to nearest, ties to even, NaN and infinity stay") {
  constexpr float kQuietNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = INFINITY;
  const auto from_bits = [](std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  };
  const float small_nan = from_bits(0x7f800001u), full_nan = from_bits(0x7fffffffu);
  in_every_precision([&](Precision precision) {
    if (precision == Precision::fp32) return;
    const float ulp = precision == Precision::tf32 ? 0x1p-10f : 0x1p-7f;
    const std::vector<std::pair<float, float>> pairs = {
        {1 + ulp / 2, 1},
        {1 + 3 * ulp / 2, 1 + 2 * ulp},
        {1 + ulp / 2 + 0x1p-22f, 1 + ulp},
        {1 + ulp / 2 - 0x1p-22f, 1},
        {-1 - 3 * ulp / 2, -1 - 2 * ulp},
        {2 - 0x1p-23f, 2},
        {kInfinity, kInfinity},
        {-kInfinity, -kInfinity},
        {kQuietNaN, kQuietNaN},
        {small_nan, kQuietNaN},
        {full_nan, kQuietNaN},
    };
    std::vector<float> values, expected;
    for (const auto& [from, to] : pairs) values.push_back(from), expected.push_back(to);
    const auto count = static_cast<std::int64_t>(values.size());
    const std::vector<float> one = {1};
    const Array<float> column(values), row(values), unit(one), as_left(values.size()),
        as_right(values.size());
    cuda().gemm({count, 1, 1, 1, 1, 1, 1, 1}, as_left.data(), column.data(), unit.data(), nullptr);
    cuda().gemm({1, count, 1, 1, 1, count, 1, count}, as_right.data(), unit.data(), row.data(), nullptr);
    for (std::size_t i = 0; i < values.size(); ++i) {
      CAPTURE(values[i]);
      for (const float got : {as_left[i], as_right[i]})
        CHECK((std::isnan(expected[i]) ? std::isnan(got) : got == expected[i]));
    }
  });
}

TEST_CASE("gemm: sums that are folded within a block, and between blocks, keep their bits every time") {
  for (const std::int64_t k : {200, 272}) {
    CAPTURE(k);
    Operands o = operands(2, 3, k, Lies::by_rows, Lies::by_columns);
    for (auto* values : {&o.a, &o.b})
      for (float& value : *values) value = 1 + std::abs(std::sin(100 * value));
    const auto got = run(o, true);
    cuda_host::check_close(got, expected_of(o, true), 12);  // the root of the terms in a row
    CHECK(got == run(o, true));
  }
}

TEST_CASE("gemm: more than an int counts is refused, not wrapped") {
  const Array<float> a(1), b(1), c(1);
  const std::int64_t many = std::int64_t{1} << 32;
  CHECK_THROWS_AS(cuda().gemm({many + 1, 1, 1, 1, 1, 1, 1, 1}, c.data(), a.data(), b.data(), nullptr),
                  DeviceFault);
}
