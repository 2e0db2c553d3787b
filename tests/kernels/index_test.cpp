// Selecting and accumulating by index against plain counting, and argmax with ties and NaN.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernel_testing.h"
#include "nest_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;

namespace {

/// x (outer, size, inner), y (outer, count, inner).
struct Sizes {
  std::int64_t outer, size, count, inner;

  std::int64_t x_at(std::int64_t i, std::int64_t s, std::int64_t l) const {
    return (i * size + s) * inner + l;
  }
  std::int64_t y_at(std::int64_t i, std::int64_t j, std::int64_t l) const {
    return (i * count + j) * inner + l;
  }

  /// Calls body(i, j, l) for every element of y.
  template <class Body>
  void for_each_y(const Body& body) const {
    for_each_index({outer, count, inner}, [&](const Index& at) { body(at[0], at[1], at[2]); });
  }
};

const Sizes kSizes[] = {{1, 1, 1, 1},      {3, 5, 8, 7},     {4, 6, 0, 3},   {0, 3, 2, 2},
                        {1, 10, 300, 400}, {200, 9, 50, 16}, {70, 30, 60, 1}};

std::vector<std::int64_t> random_indices(std::int64_t count, std::int64_t size) {
  std::mt19937 engine(11);
  std::vector<std::int64_t> index(static_cast<std::size_t>(count));
  for (std::int64_t& value : index) value = static_cast<std::int64_t>(engine() % static_cast<unsigned>(size));
  return index;
}

}  // namespace

TEST_CASE("index_select and index_add, with repeated indices added in order") {
  for (const Table* table : tables()) {
    for (const Sizes& s : kSizes) {
      CAPTURE(std::string(table->name));
      CAPTURE(s.count);
      const std::vector<float> x = random_values(s.outer * s.size * s.inner, 1);
      const std::vector<float> y = random_values(s.outer * s.count * s.inner, 2);
      const std::vector<std::int64_t> index = random_indices(s.count, s.size);
      std::vector<float> selected(y.size()), added = x;
      s.for_each_y([&](std::int64_t i, std::int64_t j, std::int64_t l) {
        selected[s.y_at(i, j, l)] = x[s.x_at(i, index[j], l)];
        added[s.x_at(i, index[j], l)] += y[s.y_at(i, j, l)];
      });
      CHECK(selected == same_for_any_threads([&] {
              std::vector<float> out(y.size());
              table->f32.index_select(s.outer, s.size, s.count, s.inner, out.data(), x.data(), index.data());
              return out;
            }));
      CHECK(added == same_for_any_threads([&] {
              std::vector<float> out = x;
              table->f32.index_add(s.outer, s.size, s.count, s.inner, out.data(), y.data(), index.data());
              return out;
            }));
    }
  }
}

TEST_CASE("gather and scatter_add, with repeated indices added in order") {
  for (const Table* table : tables()) {
    for (const Sizes& s : kSizes) {
      CAPTURE(std::string(table->name));
      CAPTURE(s.count);
      const std::vector<float> x = random_values(s.outer * s.size * s.inner, 1);
      const std::vector<float> y = random_values(s.outer * s.count * s.inner, 2);
      const std::vector<std::int64_t> index = random_indices(s.outer * s.count * s.inner, s.size);
      std::vector<float> gathered(y.size()), added = x;
      s.for_each_y([&](std::int64_t i, std::int64_t j, std::int64_t l) {
        const std::int64_t at = s.x_at(i, index[s.y_at(i, j, l)], l);
        gathered[s.y_at(i, j, l)] = x[at];
        added[at] += y[s.y_at(i, j, l)];
      });
      CHECK(gathered == same_for_any_threads([&] {
              std::vector<float> out(y.size());
              table->f32.gather(s.outer, s.size, s.count, s.inner, out.data(), x.data(), index.data());
              return out;
            }));
      CHECK(added == same_for_any_threads([&] {
              std::vector<float> out = x;
              table->f32.scatter_add(s.outer, s.size, s.count, s.inner, out.data(), y.data(), index.data());
              return out;
            }));
    }
  }
}

TEST_CASE("argmax takes the first of equals, and NaN for the largest") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  // x (3, 4, 2): along the middle.
  const std::vector<double> x = {1,   5,   3, 5,   3,    -1, 2,    5,  nan,  1,  inf,  nan,
                                 nan, nan, 0, inf, -inf, -2, -inf, -1, -inf, -1, -inf, -9};
  const std::vector<std::int64_t> want = {1, 0, 0, 1, 0, 1};
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    std::vector<std::int64_t> got(6, -1);
    table->f64.argmax(3, 4, 2, got.data(), x.data());
    CHECK(got == want);
    const std::vector<float> floats(x.begin(), x.end());
    got.assign(6, -1);
    table->f32.argmax(3, 4, 2, got.data(), floats.data());
    CHECK(got == want);
  }
}

TEST_CASE("argmax of large operands, for any number of threads") {
  const std::vector<float> x = random_values(3 * 100 * 777, 4);
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    const auto got = same_for_any_threads([&] {
      std::vector<std::int64_t> index(3 * 777);
      table->f32.argmax(3, 100, 777, index.data(), x.data());
      return index;
    });
    int wrong = 0;
    for_each_index({3, 777, 100}, [&](const Index& at) {
      const float* values = x.data() + at[0] * 77700 + at[1];
      const std::int64_t best = got[at[0] * 777 + at[1]];
      const float value = values[at[2] * 777];
      wrong += value > values[best * 777] || (value == values[best * 777] && at[2] < best);
    });
    CHECK(wrong == 0);
  }
}
