// The passes of batch normalisation over dense (rows, channels) matrices, each against its formula in double.
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

constexpr double kEps = std::numeric_limits<float>::epsilon();
constexpr double kHalfUlp = kEps / 2;

struct Size {
  std::int64_t rows, channels;
  std::int64_t count() const { return rows * channels; }
};

const Size kSizes[] = {{1, 1},   {1, 5},     {7, 1},     {9, 16},   {50, 33},   {49, 67},
                       {17, 31}, {2000, 64}, {5000, 19}, {3, 5000}, {40, 4500}, {100003, 1}};

std::vector<float> random_row(std::int64_t channels, unsigned seed) {
  return random_values(channels, seed);
}

/// Two results of one kernel, one after the other, so that threads can be compared on both at once.
std::vector<float> joined(std::vector<float> first, const std::vector<float>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

void check_moments(const Table& table, const Size& size, const std::vector<float>& x) {
  const auto got = same_for_any_threads([&] {
    std::vector<float> mean(size.channels), variance(size.channels);
    table.f32.channel_moments(size.rows, size.channels, mean.data(), variance.data(), x.data());
    return joined(mean, variance);
  });
  int wrong = 0;
  for (std::int64_t c = 0; c < size.channels; ++c) {
    long double sum = 0, squares = 0, farthest = 0;
    for (std::int64_t r = 0; r < size.rows; ++r) {
      sum += x[r * size.channels + c];
      farthest = std::max(farthest, std::abs(static_cast<long double>(x[r * size.channels + c]) - x[c]));
    }
    const long double mean = sum / size.rows;
    for (std::int64_t r = 0; r < size.rows; ++r) squares += std::pow(x[r * size.channels + c] - mean, 2.0L);
    const double variance = static_cast<double>(squares / size.rows);
    // One rounding to float; before it, sums in double of what lies within `farthest` of the first row.
    const double in_double = 4 * static_cast<double>(size.rows) * std::numeric_limits<double>::epsilon();
    const double reach = static_cast<double>(farthest);
    wrong += !agree(got[c], static_cast<double>(mean),
                    kHalfUlp * std::abs(static_cast<double>(mean)) + in_double * reach);
    wrong += !agree(got[size.channels + c], variance, kHalfUlp * variance + in_double * reach * reach);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("channel_moments") {
  for (const Table* table : tables()) {
    for (const Size& size : kSizes) {
      CAPTURE(std::string(table->name));
      CAPTURE(size.rows);
      CAPTURE(size.channels);
      if (table == &reference_table() && size.count() > 150000) continue;
      check_moments(*table, size, random_values(size.count(), 1));
    }
  }
}

TEST_CASE("channel_moments of values far from zero") {
  // Mean 10000, deviation 0.006: E[x^2] - E[x]^2 in float would be noise.
  std::vector<float> x = random_values(3000 * 20, 2);
  for (float& value : x) value = 10000 + 0.01f * value;
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    check_moments(*table, {3000, 20}, x);
  }
  // The first row an outlier.
  x = random_values(3000 * 20, 2);
  for (int c = 0; c < 20; ++c) x[c] = 1e6f;
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    check_moments(*table, {3000, 20}, x);
  }
}

TEST_CASE("channel_moments as PyTorch 2.15: mean and biased variance") {
  const std::vector<float> x = {1, 2, 3, 5, 4, -1, 0, 7};
  for (const Table* table : tables()) {
    std::vector<float> mean(2), variance(2);
    table->f32.channel_moments(4, 2, mean.data(), variance.data(), x.data());
    CHECK(mean == std::vector<float>{2, 3.25});
    CHECK(variance == std::vector<float>{2.5, 9.1875});
  }
}

TEST_CASE("channel_moments: one value that is not finite spoils its own channel only") {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (std::int64_t row : {0, 5}) {
      std::vector<float> x = random_values(10 * 20, 3);
      x[row * 20 + 4] = bad;
      for (const Table* table : tables()) {
        CAPTURE(std::string(table->name));
        std::vector<float> mean(20), variance(20);
        table->f32.channel_moments(10, 20, mean.data(), variance.data(), x.data());
        for (int c = 0; c < 20; ++c) {
          CHECK(std::isfinite(mean[c]) == (c != 4));
          CHECK(std::isnan(variance[c]) == (c == 4));
        }
        CHECK(std::isnan(mean[4]) == std::isnan(bad));
      }
    }
  }
}

TEST_CASE("channel_blend") {
  for (const Table* table : tables()) {
    for (const Size& size : kSizes) {
      CAPTURE(std::string(table->name));
      CAPTURE(size.rows);
      CAPTURE(size.channels);
      const std::vector<float> x = random_values(size.count(), 1), dy = random_values(size.count(), 2);
      const std::vector<float> a = random_row(size.channels, 3), b = random_row(size.channels, 4),
                               d = random_row(size.channels, 5), mean = random_row(size.channels, 6);
      const auto dx = same_for_any_threads([&] {
        std::vector<float> out(x.size());
        table->f32.channel_blend(size.rows, size.channels, out.data(), dy.data(), x.data(), mean.data(),
                                 a.data(), b.data(), d.data());
        return out;
      });
      int wrong = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t c = i % static_cast<std::size_t>(size.channels);
        // Four roundings, each of at most half a unit of the terms so far.
        const double first = static_cast<double>(a[c]) * dy[i],
                     distance = static_cast<double>(x[i]) - mean[c];
        const double terms = std::abs(first) + std::abs(b[c] * distance) + std::abs(d[c]);
        wrong += !agree(dx[i], first + b[c] * distance + d[c], 4 * kHalfUlp * terms);
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("channel_epilogue: every choice of steps") {
  for (const Table* table : tables()) {
    for (const Size& size : kSizes) {
      CAPTURE(std::string(table->name));
      CAPTURE(size.rows);
      CAPTURE(size.channels);
      const std::vector<float> x = random_values(size.count(), 1), residual = random_values(size.count(), 2),
                               mask = random_values(size.count(), 3);
      const std::vector<float> scale = random_row(size.channels, 4), shift = random_row(size.channels, 5),
                               after = random_row(size.channels, 6);
      for (int steps = size.count() > 20'000 ? 63 : 0; steps < 64; ++steps) {
        CAPTURE(steps);
        const auto set = [steps](int bit, const std::vector<float>& values) {
          return steps >> bit & 1 ? values.data() : nullptr;
        };
        const Epilogue<float> epilogue{set(0, scale),        set(1, shift), set(2, residual),
                                       (steps >> 3 & 1) > 0, set(4, mask),  set(5, after)};
        const auto y = same_for_any_threads([&] {
          std::vector<float> out(x.size());
          table->f32.channel_epilogue(size.rows, size.channels, out.data(), x.data(), epilogue);
          return out;
        });
        int wrong = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
          const std::size_t c = i % static_cast<std::size_t>(size.channels);
          double want = x[i], terms = std::abs(want);
          if (epilogue.scale) want *= scale[c], terms *= std::abs(scale[c]);
          if (epilogue.shift) want += shift[c], terms += std::abs(shift[c]);
          if (epilogue.residual) want += residual[i], terms += std::abs(residual[i]);
          if (epilogue.relu) want = std::max(want, 0.0);
          if (epilogue.mask && !(mask[i] > 0)) want = 0;
          if (epilogue.after) want *= after[c], terms *= std::abs(after[c]);
          wrong += !agree(y[i], want, 4 * kHalfUlp * terms);
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("channel_epilogue: NaN stays through a ReLU and is nothing as a mask") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    std::vector<float> x(17, nan), y(17), mask(17, nan);
    table->f32.channel_epilogue(1, 17, y.data(), x.data(),
                                {nullptr, nullptr, nullptr, true, nullptr, nullptr});
    for (const float value : y) CHECK(std::isnan(value));
    std::fill(x.begin(), x.end(), 1.0f);
    table->f32.channel_epilogue(1, 17, y.data(), x.data(),
                                {nullptr, nullptr, nullptr, false, mask.data(), nullptr});
    CHECK(y == std::vector<float>(17));
  }
}

TEST_CASE("channel_dots") {
  for (const Table* table : tables()) {
    for (const Size& size : kSizes) {
      CAPTURE(std::string(table->name));
      CAPTURE(size.rows);
      CAPTURE(size.channels);
      const std::vector<float> x = random_values(size.count(), 1), dy = random_values(size.count(), 2);
      const std::vector<float> mean = random_row(size.channels, 3);
      const auto got = same_for_any_threads([&] {
        std::vector<float> sum(size.channels), dot(size.channels);
        table->f32.channel_dots(size.rows, size.channels, sum.data(), dot.data(), dy.data(), x.data(),
                                mean.data());
        return joined(sum, dot);
      });
      int wrong = 0;
      for (std::int64_t c = 0; c < size.channels; ++c) {
        double sum = 0, dot = 0;
        for (std::int64_t r = 0; r < size.rows; ++r) {
          const std::int64_t i = r * size.channels + c;
          sum += dy[i];
          dot += dy[i] * (static_cast<double>(x[i]) - mean[c]);
        }
        // |dy| <= 1 and |x - mean| <= 2, so the magnitudes add up to at most 2 * rows.
        const double rows = static_cast<double>(size.rows);
        const double in_double = 4 * rows * rows * std::numeric_limits<double>::epsilon();
        wrong += !agree(got[c], sum, kHalfUlp * std::abs(sum) + in_double);
        wrong += !agree(got[size.channels + c], dot, kHalfUlp * std::abs(dot) + in_double);
      }
      CHECK(wrong == 0);
    }
  }
}
