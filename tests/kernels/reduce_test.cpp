// Sums and maxima over every subset of the dimensions, for several memory orders, against plain counting in
// double.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernel_testing.h"
#include "nest_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// x with these sizes and strides, reduced over the dimensions whose bit is set; out is dense over the
/// others.
struct Case {
  Index sizes, x_strides;
  unsigned reduced;

  bool is_reduced(std::size_t d) const { return reduced >> d & 1; }

  Index out_strides() const {
    Index strides(sizes.size(), 0);
    std::int64_t next = 1;
    for (std::size_t d = sizes.size(); d-- > 0;) {
      if (is_reduced(d)) continue;
      strides[d] = next;
      next *= sizes[d];
    }
    return strides;
  }

  std::size_t outputs() const {
    std::size_t count = 1;
    for (std::size_t d = 0; d < sizes.size(); ++d)
      count *= is_reduced(d) ? 1 : static_cast<std::size_t>(sizes[d]);
    return count;
  }

  std::int64_t length() const {
    std::int64_t count = 1;
    for (std::size_t d = 0; d < sizes.size(); ++d) count *= is_reduced(d) ? sizes[d] : 1;
    return count;
  }

  Reduce shape() const {
    Reduce shape{};
    const Index out = out_strides();
    for (std::size_t d = 0; d < sizes.size(); ++d) {
      if (is_reduced(d)) {
        shape.reduced_sizes[shape.reduced_rank] = sizes[d];
        shape.x_reduced_strides[shape.reduced_rank++] = x_strides[d];
      } else {
        shape.kept_sizes[shape.kept_rank] = sizes[d];
        shape.x_kept_strides[shape.kept_rank] = x_strides[d];
        shape.out_strides[shape.kept_rank++] = out[d];
      }
    }
    return shape;
  }
};

struct Expected {
  std::vector<double> sum, magnitude, max;
};

Expected expected(const Case& c, const std::vector<float>& x) {
  Expected e = {std::vector<double>(c.outputs(), 0), std::vector<double>(c.outputs(), 0),
                std::vector<double>(c.outputs(), -kInf)};
  const Index out = c.out_strides();
  for_each_index(c.sizes, [&](const Index& i) {
    const double value = x[offset(i, c.x_strides)];
    const std::int64_t o = offset(i, out);
    e.sum[o] += value;
    e.magnitude[o] += std::abs(value);
    e.max[o] = std::isnan(value) || std::isnan(e.max[o]) ? kNan : std::max(e.max[o], value);
  });
  return e;
}

void check(const FloatKernels<float>& kernels, const Case& c, const std::vector<float>& x) {
  const Expected want = expected(c, x);
  std::vector<float> got(c.outputs(), kNan);
  kernels.reduce(Reduction::sum, c.shape(), got.data(), x.data());
  int wrong = 0;
  for (std::size_t o = 0; o < got.size(); ++o) {
    // One rounding to float; before it `length` in double, as in the expected value.
    const double in_double = 2 * static_cast<double>(c.length()) * std::numeric_limits<double>::epsilon();
    const double allowed =
        std::numeric_limits<float>::epsilon() / 2 * std::abs(want.sum[o]) + in_double * want.magnitude[o];
    wrong += !agree(got[o], want.sum[o], allowed);
  }
  CHECK(wrong == 0);
  if (c.length() == 0) return;
  kernels.reduce(Reduction::max, c.shape(), got.data(), x.data());
  wrong = 0;
  for (std::size_t o = 0; o < got.size(); ++o) wrong += !agree(got[o], want.max[o]);
  CHECK(wrong == 0);
}

std::vector<float> data_for(const Case& c, bool with_nan) {
  std::vector<float> x = random_values(static_cast<std::int64_t>(extent(c.sizes, c.x_strides)), 5);
  if (with_nan && x.size() > 7) x[x.size() / 3] = kNan;
  return x;
}

}  // namespace

TEST_CASE("reductions over every subset of dimensions") {
  const std::vector<Case> memory_orders = {
      {{3, 5, 7, 11}, {385, 77, 11, 1}, 0},    // row-major
      {{3, 5, 7, 11}, {385, 1, 55, 5}, 0},     // channels last
      {{3, 5, 7, 11}, {1, 3, 15, 105}, 0},     // column-major
      {{3, 35, 7, 11}, {0, 77, 11, 1}, 0},     // broadcast
      {{3, 37, 2, 11}, {962, 1, 480, 40}, 0},  // channels last with gaps
      {{2, 67, 1, 9}, {603, 9, 9, 1}, 0},      // runs too short for a vector
      {{2, 40, 5, 50}, {20000, 500, 100, 2}, 0}, {{0, 4, 1, 2}, {8, 2, 2, 1}, 0},
  };
  for (const Table* table : tables()) {
    for (Case c : memory_orders) {
      for (c.reduced = 0; c.reduced < 16; ++c.reduced) {
        CAPTURE(std::string(table->name));
        CAPTURE(c.x_strides[0]);
        CAPTURE(c.reduced);
        check(table->f32, c, data_for(c, false));
        check(table->f32, c, data_for(c, true));
      }
    }
  }
}

TEST_CASE("a reduction without dimensions copies one element") {
  for (const Table* table : tables()) {
    const float x = 3;
    float out = 0;
    table->f32.reduce(Reduction::sum, Reduce{}, &out, &x);
    CHECK(out == 3);
    out = 0;
    table->f32.reduce(Reduction::max, Reduce{}, &out, &x);
    CHECK(out == 3);
  }
}

TEST_CASE(
    "large reductions are right and give the same bits for any number of threads and any vector width") {
  const std::vector<Case> cases = {
      {{300007}, {1}, 1},                                // everything
      {{3001, 67}, {67, 1}, 1},                          // rows to columns
      {{3, 2500, 40}, {100000, 40, 1}, 2},               // rows to columns, thrice
      {{3, 40, 50, 50}, {100000, 2500, 50, 1}, 0b1101},  // planes to channels
      {{70, 3000}, {3000, 1}, 2},                        // many long rows
      {{40, 5000}, {5000, 1}, 1},                        // few wide rows
      {{5000, 40}, {1, 5000}, 1},
  };
  for (const Case& c : cases) {
    const std::vector<float> x = data_for(c, false);
    std::vector<float> first;
    for (const Table* table : tables()) {
      CAPTURE(std::string(table->name));
      CAPTURE(c.sizes[0]);
      check(table->f32, c, x);
      const auto sums = same_for_any_threads([&] {
        std::vector<float> out(c.outputs());
        table->f32.reduce(Reduction::sum, c.shape(), out.data(), x.data());
        return out;
      });
      if (table == &reference_table()) continue;
      if (first.empty()) first = sums;
      CHECK(sums == first);
    }
  }
}

TEST_CASE("sums of floats lose nothing to the size of the partial sums") {
  // In float, adding 1 to 2^24 changes nothing: this would come out as 2^24.
  std::vector<float> x(1001, 1.0f);
  x[0] = 16777216;
  for (const Table* table : tables()) {
    float out = 0;
    table->f32.reduce(Reduction::sum, Case{{1001}, {1}, 1}.shape(), &out, x.data());
    CHECK(out == 16778216);
  }
}
