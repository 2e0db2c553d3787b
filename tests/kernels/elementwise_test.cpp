// Every unary and binary operation of every table against the C++ library in double, over all kinds of
// strides.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernel_testing.h"
#include "nest_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

constexpr Unary kUnary[] = {Unary::neg,     Unary::exp,      Unary::log,    Unary::sqrt,
                            Unary::abs,     Unary::sign,     Unary::relu,   Unary::leaky_relu,
                            Unary::sigmoid, Unary::tanh,     Unary::pow,    Unary::clamp,
                            Unary::between, Unary::positive, Unary::affine, Unary::reciprocal};
constexpr Binary kBinary[] = {Binary::add,       Binary::sub,     Binary::mul,   Binary::div,
                              Binary::pow,       Binary::maximum, Binary::equal, Binary::greater,
                              Binary::relu_grad, Binary::minimum};

/// What comes out, and how far from it rounding may lead, in units of the element type's epsilon.
struct Expected {
  double value;
  double allowed = 0;
};

/// The C library promises its functions within 2 units in the last place.
Expected library(double value, double roundings = 0) {
  return {value, (2 + roundings) * std::abs(value)};
}

Expected expected(Unary op, double x, double a, double b) {
  switch (op) {
    case Unary::neg:
      return {-x};
    case Unary::exp:
      return library(std::exp(x));
    case Unary::log:
      return library(std::log(x));
    case Unary::sqrt:
      return {std::sqrt(x)};
    case Unary::abs:
      return {std::abs(x)};
    case Unary::sign:
      return {x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0};
    case Unary::relu:
      return {std::isnan(x) ? x : std::max(x, 0.0)};
    case Unary::leaky_relu:
      return {x > 0 ? x : a * x};
    case Unary::sigmoid:
      return library(1 / (1 + std::exp(-x)), 2);
    case Unary::tanh:
      return library(std::tanh(x));
    case Unary::reciprocal:
      return {1 / x};
    case Unary::pow:
      return library(std::pow(x, a));
    case Unary::clamp:
      return {std::isnan(x) ? x : std::min(std::max(x, a), b)};
    case Unary::between:
      return {x >= a && x <= b ? 1.0 : 0.0};
    case Unary::positive:
      return {x > 0 ? 1.0 : 0.0};
    case Unary::affine:
      return {a * x + b, std::abs(a * x) + std::abs(b)};  // fused or not
  }
  return {kNan};
}

Expected expected(Binary op, double x, double y) {
  const bool unordered = std::isnan(x) || std::isnan(y);
  switch (op) {
    case Binary::add:
      return {x + y};
    case Binary::sub:
      return {x - y};
    case Binary::mul:
      return {x * y};
    case Binary::div:
      return {x / y};
    case Binary::pow:
      return library(std::pow(x, y));
    case Binary::maximum:
      return {unordered ? kNan : std::max(x, y)};
    case Binary::minimum:
      return {unordered ? kNan : std::min(x, y)};
    case Binary::equal:
      return {x == y ? 1.0 : 0.0};
    case Binary::greater:
      return {x > y ? 1.0 : 0.0};
    case Binary::relu_grad:
      return {y > 0 ? x : 0.0};
  }
  return {kNan};
}

/// Special values first, then ordinary ones.
template <class T>
std::vector<T> operand(std::size_t count, unsigned seed) {
  std::vector<T> values;
  for (float v : random_values(static_cast<std::int64_t>(count), seed))
    values.push_back(static_cast<T>(4 * v));
  const double special[] = {0.0, kNan, -0.0, 1.0, kInf, -1.0, -kInf, 1e-40, -3e38, 0.5, -0.5, 2.0};
  for (std::size_t i = 0; i < std::size(special) && i * seed < count / 2; ++i) {
    values[i * seed] = static_cast<T>(special[i]);
  }
  return values;
}

template <class T>
bool right(T got, const Expected& want) {
  const double allowed = std::numeric_limits<T>::epsilon() * want.allowed;
  return agree(got, static_cast<T>(want.value), allowed);
}

const FloatKernels<float>& kernels_of(const Table& table, float) {
  return table.f32;
}
const FloatKernels<double>& kernels_of(const Table& table, double) {
  return table.f64;
}

/// A marker for elements that nobody should have written.
constexpr double kUntouched = 12345;

template <class T>
void check_unary(const Table& table, const Nest<2>& nest, double a, double b) {
  const std::vector<T> x = operand<T>(nest.extent_of(1), 3);
  for (Unary op : kUnary) {
    std::vector<T> out(nest.extent_of(0), static_cast<T>(kUntouched)), want = out;
    kernels_of(table, T{}).unary(op, nest.loops(), out.data(), x.data(), a, b);
    int wrong = 0;
    for_each_index(nest.sizes, [&](const Index& i) {
      T& got = out[offset(i, nest.strides[0])];
      if (!right(got, expected(op, x[offset(i, nest.strides[1])], static_cast<T>(a), static_cast<T>(b))))
        ++wrong;
      got = static_cast<T>(kUntouched);
    });
    CAPTURE(static_cast<int>(op));
    CHECK(wrong == 0);
    CHECK(out == want);
  }
}

template <class T>
void check_binary(const Table& table, const Nest<3>& nest) {
  const std::vector<T> x = operand<T>(nest.extent_of(1), 3), y = operand<T>(nest.extent_of(2), 2);
  for (Binary op : kBinary) {
    std::vector<T> out(nest.extent_of(0), static_cast<T>(kUntouched)), want = out;
    kernels_of(table, T{}).binary(op, nest.loops(), out.data(), x.data(), y.data());
    int wrong = 0;
    for_each_index(nest.sizes, [&](const Index& i) {
      T& got = out[offset(i, nest.strides[0])];
      if (!right(got, expected(op, x[offset(i, nest.strides[1])], y[offset(i, nest.strides[2])]))) ++wrong;
      got = static_cast<T>(kUntouched);
    });
    CAPTURE(static_cast<int>(op));
    CHECK(wrong == 0);
    CHECK(out == want);
  }
}

const std::vector<Nest<3>>& nests() {
  static const std::vector<Nest<3>> list = {
      {{0}, {{1}, {1}, {1}}},
      {{1}, {{1}, {1}, {1}}},
      {{77}, {{1}, {1}, {1}}},
      {{77}, {{1}, {1}, {0}}},
      {{77}, {{1}, {0}, {1}}},
      {{19}, {{1}, {0}, {0}}},
      {{19}, {{2}, {3}, {1}}},
      {{3, 0, 5}, {{5, 5, 1}, {5, 5, 1}, {5, 5, 1}}},
      {{6, 35}, {{40, 1}, {35, 1}, {0, 1}}},
      {{6, 35}, {{35, 1}, {1, 6}, {1, 0}}},
      {{3, 5, 17}, {{85, 17, 1}, {1, 3, 15}, {0, 17, 1}}},
      {{2, 3, 1, 4, 5}, {{60, 20, 20, 5, 1}, {1, 2, 6, 6, 24}, {5, 0, 7, 0, 1}}},
  };
  return list;
}

}  // namespace

TEST_CASE("unary operations over all kinds of strides") {
  for (const Table* table : tables()) {
    for (const Nest<3>& nest : nests()) {
      CAPTURE(std::string(table->name));
      CAPTURE(nest.sizes.size());
      const Nest<2> two = {nest.sizes, {nest.strides[0], nest.strides[1]}};
      check_unary<float>(*table, two, -0.75, 1.5);
      check_unary<double>(*table, two, -0.75, 1.5);
      check_unary<float>(*table, two, 2,
                         0.5);  // pow's special case; clamp with crossed bounds gives the upper one
    }
  }
}

TEST_CASE("binary operations over all kinds of strides") {
  for (const Table* table : tables()) {
    for (const Nest<3>& nest : nests()) {
      CAPTURE(std::string(table->name));
      CAPTURE(nest.sizes.size());
      check_binary<float>(*table, nest);
      check_binary<double>(*table, nest);
    }
  }
}

TEST_CASE("elementwise operations may write over an operand") {
  const std::vector<float> x = random_values(1001, 1), y = random_values(1001, 2);
  const Nest<3> nest = {{1001}, {{1}, {1}, {1}}};
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    std::vector<float> relu = x, sum_left = x, sum_right = y, twice = x;
    table->f32.unary(Unary::relu, Nest<2>{{1001}, {{1}, {1}}}.loops(), relu.data(), relu.data(), 0, 0);
    table->f32.binary(Binary::sub, nest.loops(), sum_left.data(), sum_left.data(), y.data());
    table->f32.binary(Binary::sub, nest.loops(), sum_right.data(), x.data(), sum_right.data());
    table->f32.binary(Binary::add, nest.loops(), twice.data(), twice.data(), twice.data());
    int wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      wrong += relu[i] != std::max(x[i], 0.0f) || sum_left[i] != x[i] - y[i] || sum_right[i] != x[i] - y[i] ||
               twice[i] != 2 * x[i];
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("elementwise operations on large operands give the same bits for any number of threads") {
  const Nest<3> nest = {{1501, 67}, {{67, 1}, {67, 1}, {0, 1}}};
  const std::vector<float> x = random_values(1501 * 67, 1), y = random_values(67, 2);
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    std::vector<float> out(x.size());
    for (Binary op : kBinary) {
      const std::vector<float> got = same_for_any_threads([&] {
        table->f32.binary(op, nest.loops(), out.data(), x.data(), y.data());
        return out;
      });
      int wrong = 0;
      for (std::size_t i = 0; i < got.size(); ++i) wrong += !right(got[i], expected(op, x[i], y[i % 67]));
      CAPTURE(static_cast<int>(op));
      CHECK(wrong == 0);
    }
    same_for_any_threads([&] {
      table->f32.unary(Unary::affine, Nest<2>{{1501 * 67}, {{1}, {1}}}.loops(), out.data(), x.data(), 1.1,
                       0.3);
      return out;
    });
  }
}
