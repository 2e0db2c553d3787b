// Softmax and its logarithm by rows, against double and against PyTorch.
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

TEST_CASE("softmax and log_softmax of rows") {
  const double eps = std::numeric_limits<float>::epsilon();
  for (const Table* table : tables()) {
    for (const auto& size :
         std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {3, 7}, {0, 5}, {5, 1000}, {301, 100}}) {
      const std::int64_t rows = size.first, columns = size.second;
      CAPTURE(std::string(table->name));
      CAPTURE(columns);
      std::vector<float> x = random_values(rows * columns, 1);
      for (float& value : x) value *= 20;
      const auto y = same_for_any_threads([&] {
        std::vector<float> out(x.size());
        table->f32.softmax(rows, columns, out.data(), x.data());
        return out;
      });
      const auto log_y = same_for_any_threads([&] {
        std::vector<float> out(x.size());
        table->f32.log_softmax(rows, columns, out.data(), x.data());
        return out;
      });
      int wrong = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        const float* row = x.data() + r * columns;
        const double largest = *std::max_element(row, row + columns);
        double sum = 0;
        for (std::int64_t c = 0; c < columns; ++c) sum += std::exp(row[c] - largest);
        for (std::int64_t c = 0; c < columns; ++c) {
          const double distance = row[c] - largest, log_want = distance - std::log(sum),
                       want = std::exp(log_want);
          // The rounding of x - max (half a unit of it) is an error of the exponent; then exp (2 units), 1 /
          // sum and the product.
          const double allowed = want * eps * (std::abs(distance) / 2 + 2 + 2 + 1);
          wrong += !agree(y[r * columns + c], want, allowed);
          // exp's errors in the sum (2 units and that of its exponent, weighted by the terms), the
          // difference, the logarithm and the last difference.
          wrong += !agree(log_y[r * columns + c], log_want, eps * (std::abs(distance) + std::log(sum) + 3));
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("softmax as PyTorch 2.15") {
  const std::vector<double> x = {1, 2, 3, 4, -50};
  const std::vector<double> softmax = {0.03205860328008499, 0.08714431874203257, 0.23688281808991016,
                                       0.6439142598879724, 2.2747099125277874e-24};
  const std::vector<double> log_softmax = {-3.4401896985611953, -2.4401896985611953, -1.4401896985611953,
                                           -0.44018969856119533, -54.4401896985612};
  for (const Table* table : tables()) {
    std::vector<double> y(5);
    table->f64.softmax(1, 5, y.data(), x.data());
    for (int i = 0; i < 5; ++i) CHECK(y[i] == doctest::Approx(softmax[i]).epsilon(1e-14));
    table->f64.log_softmax(1, 5, y.data(), x.data());
    for (int i = 0; i < 5; ++i) CHECK(y[i] == doctest::Approx(log_softmax[i]).epsilon(1e-14));
  }
}

TEST_CASE("softmax of values that are not finite, and of large ones") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    std::vector<float> y(2);
    for (const std::vector<float>& row : {std::vector<float>{-inf, -inf}, {inf, 1}, {nan, 1}, {1, nan}}) {
      table->f32.softmax(1, 2, y.data(), row.data());
      CHECK((std::isnan(y[0]) && std::isnan(y[1])));
    }
    const std::vector<float> masked = {-inf, 1}, large = {3e38f, 3e38f};
    table->f32.softmax(1, 2, y.data(), masked.data());
    CHECK(y == std::vector<float>{0, 1});
    table->f32.log_softmax(1, 2, y.data(), masked.data());
    CHECK(y == std::vector<float>{-inf, 0});
    table->f32.softmax(1, 2, y.data(), large.data());
    CHECK(y == std::vector<float>{0.5f, 0.5f});
  }
}
