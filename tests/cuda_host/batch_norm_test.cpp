// Batch normalisation's passes and epilogues on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;
using Index = std::int64_t;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

const FloatKernels<float>& cuda() {
  static const FloatKernels<float> table = [] {
    FloatKernels<float> result{};
    fill_batch_norm_cuda(result);
    return result;
  }();
  return table;
}

struct Size {
  Index rows, channels;
  std::size_t count() const { return static_cast<std::size_t>(rows * channels); }
  std::size_t across() const { return static_cast<std::size_t>(channels); }
};
const Size kSizes[] = {{1, 1}, {7, 3}, {300, 1}, {33, 36}, {40, 67}, {3000, 5}, {5, 0}};

/// Positive, for variances.
std::vector<float> positive(std::size_t count, unsigned seed) {
  std::vector<float> values = cuda_host::numbers(count, seed);
  for (float& value : values) value = value * value + 0.125f;
  return values;
}

/// The values from element `offset` of an allocation on: vectors may not start at an odd one.
class Placed {
 public:
  Placed(const std::vector<float>& values, std::size_t offset)
      : offset_(offset), array_(values.size() + offset) {
    std::copy(values.begin(), values.end(), data());
    cuda_host::set_written(data(), values.size() * sizeof(float));
  }
  float* data() const { return array_.data() + offset_; }
  std::vector<float> values() const {
    const std::vector<float> all = array_.values();
    return {all.begin() + static_cast<std::ptrdiff_t>(offset_), all.end()};
  }

 private:
  std::size_t offset_;
  Array<float> array_;
};

bool same(const std::vector<float>& got, const std::vector<float>& expected) {
  return std::equal(got.begin(), got.end(), expected.begin(), expected.end(),
                    [](float a, float b) { return a == b || (a != a && b != b); });
}

struct Moments {
  std::vector<float> mean, variance;
};
Moments moments_of(const Size& size, const std::vector<float>& values) {
  const Array<float> x(values), mean(size.across()), variance(size.across());
  cuda().channel_moments(size.rows, size.channels, mean.data(), variance.data(), x.data());
  return {mean.values(), variance.values()};
}
Moments expected_moments(const Size& size, const std::vector<float>& values) {
  Moments m{std::vector<float>(size.across()), std::vector<float>(size.across())};
  cuda_host::reference().channel_moments(size.rows, size.channels, m.mean.data(), m.variance.data(),
                                         values.data());
  return m;
}

}  // namespace

TEST_CASE("channel_moments: mean and variance, however far the mean is from zero") {
  for (const Size& size : kSizes)
    for (const float centre : {0.0f, 5000.0f}) {
      CAPTURE(size.rows);
      CAPTURE(size.channels);
      CAPTURE(centre);
      std::vector<float> x = cuda_host::numbers(size.count());
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += centre * static_cast<float>(i % size.across());
      const Moments got = moments_of(size, x), expected = expected_moments(size, x);
      cuda_host::check_close(got.mean, expected.mean, 1);
      cuda_host::check_close(got.variance, expected.variance, 2);
    }
}

TEST_CASE(
    "channel_moments: one that is not finite spoils its own channel only, equal values have no variance") {
  const Size size{40, 4};
  std::vector<float> x = cuda_host::numbers(size.count());
  x[0] = kInf, x[5] = kNan;
  for (std::size_t i = 2; i < x.size(); i += 4) x[i] = 0.1f;
  const Moments got = moments_of(size, x), expected = expected_moments(size, x);
  CHECK(got.mean[0] == kInf);
  CHECK(std::isnan(got.variance[0]));
  CHECK(std::isnan(got.mean[1]));
  CHECK(std::isnan(got.variance[1]));
  CHECK(got.mean[2] == 0.1f);
  CHECK(got.variance[2] == 0);
  CHECK(got.mean[3] == expected.mean[3]);
  CHECK(got.variance[3] == doctest::Approx(expected.variance[3]));

  const Moments nothing = moments_of({0, 3}, {});
  CHECK(std::all_of(nothing.mean.begin(), nothing.mean.end(), [](float v) { return std::isnan(v); }));
  CHECK(std::all_of(nothing.variance.begin(), nothing.variance.end(), [](float v) { return std::isnan(v); }));
}

TEST_CASE("channel_epilogue: every choice of its parts, in their order, also in place") {
  for (const Size& size : {Size{9, 8}, Size{5, 7}, Size{300, 1}, Size{0, 4}, Size{90, 4}})
    for (unsigned which = 0; which < 64; ++which)
      for (const std::size_t offset : {std::size_t{0}, std::size_t{1}}) {
        CAPTURE(size.channels);
        CAPTURE(which);
        CAPTURE(offset);
        const std::size_t channels = size.across();
        std::vector<float> values = cuda_host::numbers(size.count(), 1);
        std::vector<float> mask = cuda_host::numbers(size.count(), 6);
        for (std::size_t i = 0; i < values.size(); i += 11) values[i] = kNan;
        for (std::size_t i = 5; i < mask.size(); i += 7) mask[i] = i % 2 ? kNan : 0;
        const std::vector<float> parts[] = {cuda_host::numbers(channels, 2), cuda_host::numbers(channels, 3),
                                            cuda_host::numbers(size.count(), 4), mask,
                                            cuda_host::numbers(channels, 5)};
        const auto epilogue = [&](const auto& at) {
          Epilogue<float> e;
          if (which & 1) e.scale = at(0);
          if (which & 2) e.shift = at(1);
          if (which & 4) e.residual = at(2);
          e.relu = which & 8;
          if (which & 16) e.mask = at(3);
          if (which & 32) e.after = at(4);
          return e;
        };
        std::vector<float> expected(size.count());
        cuda_host::reference().channel_epilogue(size.rows, size.channels, expected.data(), values.data(),
                                                epilogue([&](int i) { return parts[i].data(); }));
        // One operand alone may be out of step.
        const Placed scale(parts[0], 0), shift(parts[1], offset), residual(parts[2], 0), at_mask(parts[3], 0),
            after(parts[4], 0), x(values, 0), y(values, 0);
        const Placed* const placed[] = {&scale, &shift, &residual, &at_mask, &after};
        const Epilogue<float> e = epilogue([&](int i) { return placed[i]->data(); });
        cuda().channel_epilogue(size.rows, size.channels, y.data(), x.data(), e);
        CHECK(same(y.values(), expected));
        cuda().channel_epilogue(size.rows, size.channels, x.data(), x.data(), e);
        CHECK(same(x.values(), expected));
      }
}

TEST_CASE("channel_dots") {
  for (const Size& size : kSizes) {
    CAPTURE(size.rows);
    CAPTURE(size.channels);
    const std::vector<float> dy = cuda_host::numbers(size.count(), 1),
                             x = cuda_host::numbers(size.count(), 2),
                             mean = cuda_host::numbers(size.across(), 3);
    std::vector<float> sum(mean.size()), dot(mean.size());
    cuda_host::reference().channel_dots(size.rows, size.channels, sum.data(), dot.data(), dy.data(), x.data(),
                                        mean.data());
    const Array<float> device_dy(dy), device_x(x), device_mean(mean), device_sum(sum.size()),
        device_dot(sum.size());
    cuda().channel_dots(size.rows, size.channels, device_sum.data(), device_dot.data(), device_dy.data(),
                        device_x.data(), device_mean.data());
    // Exact in double, and rounded once.
    CHECK(device_sum.values() == sum);
    CHECK(device_dot.values() == dot);
  }
}

TEST_CASE("channel_blend") {
  for (const Size& size : {Size{1, 1}, Size{33, 36}, Size{40, 67}, Size{5, 0}})
    for (const std::size_t offset : {std::size_t{0}, std::size_t{1}}) {
      CAPTURE(size.rows);
      CAPTURE(size.channels);
      const std::vector<float> dy = cuda_host::numbers(size.count(), 1),
                               x = cuda_host::numbers(size.count(), 2);
      std::vector<std::vector<float>> factors;
      for (unsigned i = 0; i < 4; ++i) factors.push_back(cuda_host::numbers(size.across(), 3 + i));
      std::vector<float> expected(size.count());
      cuda_host::reference().channel_blend(size.rows, size.channels, expected.data(), dy.data(), x.data(),
                                           factors[0].data(), factors[1].data(), factors[2].data(),
                                           factors[3].data());
      const Placed device_dy(dy, 0), device_x(x, offset), dx(expected, 0), mean(factors[0], 0),
          a(factors[1], 0), b(factors[2], 0), d(factors[3], 0);
      std::fill_n(dx.data(), expected.size(), 77.0f);
      cuda().channel_blend(size.rows, size.channels, dx.data(), device_dy.data(), device_x.data(),
                           mean.data(), a.data(), b.data(), d.data());
      cuda_host::check_close(dx.values(), expected, 4);
    }
}

TEST_CASE("channel_affine: weight and bias may be absent") {
  for (const Index channels : {0, 1, 67, 300})
    for (const bool weighted : {false, true})
      for (const bool biased : {false, true}) {
        const auto count = static_cast<std::size_t>(channels);
        const std::vector<float> mean = cuda_host::numbers(count, 1), variance = positive(count, 2),
                                 weight = cuda_host::numbers(count, 3), bias = cuda_host::numbers(count, 4);
        std::vector<float> scale(count), shift(count);
        cuda_host::reference().channel_affine(channels, 1e-5, scale.data(), shift.data(), mean.data(),
                                              variance.data(), weighted ? weight.data() : nullptr,
                                              biased ? bias.data() : nullptr);
        const Array<float> device_mean(mean), device_variance(variance), device_weight(weight),
            device_bias(bias), device_scale(count), device_shift(count);
        cuda().channel_affine(channels, 1e-5, device_scale.data(), device_shift.data(), device_mean.data(),
                              device_variance.data(), weighted ? device_weight.data() : nullptr,
                              biased ? device_bias.data() : nullptr);
        cuda_host::check_close(device_scale.values(), scale, 1);
        cuda_host::check_close(device_shift.values(), shift, 1);
      }
}

TEST_CASE("channel_factors: training or not, with weights or without") {
  for (const bool training : {false, true})
    for (const bool weighted : {false, true}) {
      const Index rows = 49, channels = 67;
      const std::size_t count = 67;
      const std::vector<float> sum_dy = cuda_host::numbers(count, 1), dot = cuda_host::numbers(count, 2),
                               variance = positive(count, 3), weight = cuda_host::numbers(count, 4);
      std::vector<std::vector<float>> expected(4, std::vector<float>(count));
      cuda_host::reference().channel_factors(
          rows, channels, 1e-5, training, expected[0].data(), expected[1].data(), expected[2].data(),
          expected[3].data(), sum_dy.data(), dot.data(), variance.data(), weighted ? weight.data() : nullptr);
      const Array<float> device_sum(sum_dy), device_dot(dot), device_variance(variance),
          device_weight(weight), dweight(count), a(count), b(count), d(count);
      cuda().channel_factors(rows, channels, 1e-5, training, dweight.data(), a.data(), b.data(), d.data(),
                             device_sum.data(), device_dot.data(), device_variance.data(),
                             weighted ? device_weight.data() : nullptr);
      cuda_host::check_close(dweight.values(), expected[0], 1);
      cuda_host::check_close(a.values(), expected[1], 1);
      cuda_host::check_close(b.values(), expected[2], 1);
      cuda_host::check_close(d.values(), expected[3], 1);
    }
}

TEST_CASE("channel_average") {
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{300}}) {
    std::vector<float> running = cuda_host::numbers(count, 1);
    const std::vector<float> batch = cuda_host::numbers(count, 2);
    const Array<float> device_running(running), device_batch(batch);
    const auto channels = static_cast<Index>(count);
    cuda().channel_average(channels, 0.1, 1.25, device_running.data(), device_batch.data());
    cuda_host::reference().channel_average(channels, 0.1, 1.25, running.data(), batch.data());
    cuda_host::check_close(device_running.values(), running, 1);
  }
}
