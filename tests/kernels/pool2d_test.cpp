// Max, average and adaptive average pooling against plain loops over each window, and each backward against
// its forward.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernel_testing.h"
#include "nest_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::int64_t x_count(const Pool2d& s) {
  return s.n * s.c * s.h * s.w;
}
std::int64_t y_count(const Pool2d& s) {
  return s.n * s.c * s.oh * s.ow;
}

/// n, c, h, w, oh, ow, kernel, stride, padding, dilation.
const Pool2d kWindows[] = {
    {1, 64, 9, 9, 5, 5, 3, 3, 2, 2, 1, 1, 1, 1, true},    // ResNet's
    {2, 67, 8, 11, 4, 5, 2, 2, 2, 2, 0, 0, 1, 1, true},   // VGG's
    {2, 3, 7, 6, 7, 6, 3, 3, 1, 1, 1, 1, 1, 1, false},    // overlapping
    {1, 20, 11, 5, 4, 2, 2, 3, 3, 4, 1, 1, 1, 1, false},  // gaps between windows
    {3, 1, 13, 10, 4, 7, 4, 2, 3, 1, 2, 1, 1, 1, true},   // uneven
    {1, 17, 12, 12, 4, 5, 3, 2, 2, 2, 0, 1, 2, 3, true},  // dilated
    {1, 5, 14, 9, 4, 3, 3, 3, 4, 3, 1, 0, 2, 1, true},    // dilation and stride share a factor
    {1, 8, 13, 4, 1, 1, 5, 2, 6, 1, 2, 0, 3, 2, true},
    {1, 16, 4, 4, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1, false},  // ceil mode: the last window sticks out
    {1, 16, 4, 4, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1, true},
    {2, 9, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, true},
    {1, 33, 16, 16, 1, 1, 16, 16, 1, 1, 0, 0, 1, 1, true},  // 256 taps
    {0, 4, 4, 4, 2, 2, 2, 2, 2, 2, 0, 0, 1, 1, true},
};

/// Calls body(output index, tap, input index) for all that the windows cover inside the picture, taps in
/// order.
template <class Body>
void for_each_covered(const Pool2d& s, const Body& body) {
  for_each_index({s.n, s.oh, s.ow, s.c, s.kernel_h, s.kernel_w}, [&](const Index& at) {
    const std::int64_t h = at[1] * s.stride_h - s.pad_h + at[4] * s.dil_h;
    const std::int64_t w = at[2] * s.stride_w - s.pad_w + at[5] * s.dil_w;
    if (h < 0 || h >= s.h || w < 0 || w >= s.w) return;
    const std::int64_t y = ((at[0] * s.oh + at[1]) * s.ow + at[2]) * s.c + at[3];
    body(y, at[4] * s.kernel_w + at[5], ((at[0] * s.h + h) * s.w + w) * s.c + at[3]);
  });
}

struct Winners {
  std::vector<float> y;
  std::vector<std::uint8_t> taps;
  std::vector<std::int64_t> inputs;
};

Winners max_pool(const Pool2d& s, const std::vector<float>& x) {
  const auto count = static_cast<std::size_t>(y_count(s));
  Winners result = {std::vector<float>(count), std::vector<std::uint8_t>(count),
                    std::vector<std::int64_t>(count, -1)};
  for_each_covered(s, [&](std::int64_t y, std::int64_t tap, std::int64_t input) {
    if (result.inputs[y] >= 0 && !std::isnan(x[input]) && !(x[input] > result.y[y])) return;
    result.y[y] = x[input];
    result.taps[y] = static_cast<std::uint8_t>(tap);
    result.inputs[y] = input;
  });
  return result;
}

/// Values on a coarse grid, so that windows contain equal maxima; some NaN and infinities.
std::vector<float> values_with_ties(std::int64_t count) {
  std::vector<float> x = random_values(count, 1);
  for (float& value : x) value = std::round(value * 4);
  for (std::size_t i = 0; i < x.size(); i += 97) x[i] = i % 2 ? kNan : -kInf;
  return x;
}

bool same_or_both_nan(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!agree(a[i], b[i])) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("max_pool2d: values and winners, first of equals, NaN above all") {
  for (const Table* table : tables()) {
    for (const Pool2d& s : kWindows) {
      CAPTURE(std::string(table->name));
      CAPTURE(s.c);
      CAPTURE(s.kernel_h);
      const std::vector<float> x = values_with_ties(x_count(s));
      const Winners want = max_pool(s, x);
      std::vector<float> y(want.y.size()), y_alone(want.y.size());
      std::vector<std::uint8_t> taps(want.y.size());
      table->f32.max_pool2d(s, y.data(), taps.data(), x.data());
      table->f32.max_pool2d(s, y_alone.data(), nullptr, x.data());
      CHECK(same_or_both_nan(y, want.y));
      CHECK(taps == want.taps);
      CHECK(same_or_both_nan(y_alone, want.y));
    }
  }
}

TEST_CASE("max_pool2d as PyTorch 2.15") {
  std::vector<double> x(25);
  for (int i = 0; i < 25; ++i) x[i] = i + 1;
  const Pool2d dilated = {1, 1, 5, 5, 3, 3, 2, 2, 1, 1, 0, 0, 2, 2, true};
  const Pool2d one_row = {1, 1, 1, 4, 1, 1, 1, 4, 1, 4, 0, 0, 1, 1, true};
  const std::vector<double> nans = {1, kNan, 3, kNan};
  for (const Table* table : tables()) {
    std::vector<double> y(9);
    std::vector<std::uint8_t> taps(9);
    table->f64.max_pool2d(dilated, y.data(), taps.data(), x.data());
    CHECK(y == std::vector<double>{13, 14, 15, 18, 19, 20, 23, 24, 25});
    CHECK(taps == std::vector<std::uint8_t>(9, 3));
    table->f64.max_pool2d(one_row, y.data(), taps.data(), nans.data());
    CHECK(std::isnan(y[0]));
    CHECK(taps[0] == 3);  // the last NaN of the window
  }
}

TEST_CASE("max_pool2d_gather and max_pool2d_scatter follow the winners") {
  for (const Table* table : tables()) {
    for (const Pool2d& s : kWindows) {
      CAPTURE(std::string(table->name));
      CAPTURE(s.c);
      CAPTURE(s.kernel_h);
      const Winners winners = max_pool(s, values_with_ties(x_count(s)));
      const std::vector<float> x = random_values(x_count(s), 2), dy = random_values(y_count(s), 3);
      std::vector<float> gathered(dy.size()), y(dy.size(), kNan), dx(x.size(), kNan);
      std::vector<double> sum(x.size(), 0), size(x.size(), 0);
      for (std::size_t o = 0; o < dy.size(); ++o) {
        gathered[o] = x[winners.inputs[o]];
        sum[winners.inputs[o]] += dy[o];
        size[winners.inputs[o]] += std::abs(dy[o]);
      }
      table->f32.max_pool2d_gather(s, y.data(), x.data(), winners.taps.data());
      CHECK(y == gathered);
      table->f32.max_pool2d_scatter(s, dx.data(), dy.data(), winners.taps.data());
      CHECK(worst_error(dx, sum, size, s.kernel_h * s.kernel_w) <= 1);
    }
  }
}

TEST_CASE("a gradient that is NaN or infinite reaches only the winner") {
  const Pool2d s = {1, 4, 4, 4, 2, 2, 2, 2, 2, 2, 0, 0, 1, 1, true};
  const std::vector<std::uint8_t> taps(16, 2);
  std::vector<float> dy(16, kNan);
  dy[0] = kInf;
  for (const Table* table : tables()) {
    std::vector<float> dx(64);
    table->f32.max_pool2d_scatter(s, dx.data(), dy.data(), taps.data());
    int not_finite = 0;
    for (float value : dx) not_finite += !std::isfinite(value);
    CHECK(not_finite == 16);
    CHECK(dx[16] == kInf);
  }
}

TEST_CASE("a window that sees only padding gives -infinity and passes no gradient") {
  // Taps at -1, 1 and 3 of a single pixel at 0.
  const Pool2d s = {1, 2, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1, 2, 2, true};
  for (const Table* table : tables()) {
    const std::vector<float> x = {1, 2}, dy = {3, 4};
    std::vector<float> y(2), dx(2, 5), gathered(2, 5);
    std::vector<std::uint8_t> taps(2, 77);
    table->f32.max_pool2d(s, y.data(), taps.data(), x.data());
    CHECK(y == std::vector<float>(2, -kInf));
    table->f32.max_pool2d_scatter(s, dx.data(), dy.data(), taps.data());
    CHECK(dx == std::vector<float>(2, 0));
    table->f32.max_pool2d_gather(s, gathered.data(), x.data(), taps.data());
    CHECK(gathered == std::vector<float>(2, 0));
  }
}

TEST_CASE("max pooling of large pictures gives the same bits for any number of threads") {
  const Pool2d s = {2, 70, 41, 37, 21, 19, 3, 3, 2, 2, 1, 1, 1, 1, true};
  const std::vector<float> x = random_values(x_count(s), 1), dy = random_values(y_count(s), 2);
  const Winners want = max_pool(s, x);
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    CHECK(want.y == same_for_any_threads([&] {
            std::vector<float> y(want.y.size());
            table->f32.max_pool2d(s, y.data(), nullptr, x.data());
            return y;
          }));
    CHECK(want.taps == same_for_any_threads([&] {
            std::vector<float> y(want.y.size());
            std::vector<std::uint8_t> taps(want.y.size());
            table->f32.max_pool2d(s, y.data(), taps.data(), x.data());
            return taps;
          }));
    same_for_any_threads([&] {
      std::vector<float> dx(x.size());
      table->f32.max_pool2d_scatter(s, dx.data(), dy.data(), want.taps.data());
      return dx;
    });
  }
}

namespace {

using Forward = void (*)(const Pool2d&, float*, const float*);
using ForwardF64 = void (*)(const Pool2d&, double*, const double*);

/// One average pooling as a list of its non-zero coefficients.
struct Coefficient {
  std::int64_t y, x;
  double weight;
};

std::vector<Coefficient> average_of_windows(const Pool2d& s) {
  // What a window divides by: the positions it covers in the picture, or in the padded picture.
  std::vector<double> counted(static_cast<std::size_t>(y_count(s)), 0);
  const std::int64_t pad_h = s.count_include_pad ? s.pad_h : 0, pad_w = s.count_include_pad ? s.pad_w : 0;
  for_each_index({s.n, s.oh, s.ow, s.c, s.kernel_h, s.kernel_w}, [&](const Index& at) {
    const std::int64_t h = at[1] * s.stride_h - s.pad_h + at[4], w = at[2] * s.stride_w - s.pad_w + at[5];
    const bool counts = h >= -pad_h && h < s.h + pad_h && w >= -pad_w && w < s.w + pad_w;
    counted[((at[0] * s.oh + at[1]) * s.ow + at[2]) * s.c + at[3]] += counts;
  });
  std::vector<Coefficient> list;
  for_each_covered(s, [&](std::int64_t y, std::int64_t, std::int64_t x) {
    list.push_back({y, x, 1 / counted[y]});
  });
  return list;
}

std::vector<Coefficient> adaptive_average(const Pool2d& s) {
  const auto covers = [](std::int64_t o, std::int64_t i, std::int64_t in, std::int64_t out) {
    const double share = static_cast<double>(in) / static_cast<double>(out);
    return std::floor(static_cast<double>(o) * share) <= static_cast<double>(i) &&
           static_cast<double>(i) < std::ceil(static_cast<double>(o + 1) * share);
  };
  std::vector<double> counted(static_cast<std::size_t>(y_count(s)), 0);
  std::vector<Coefficient> list;
  for_each_index({s.n, s.oh, s.ow, s.c, s.h, s.w}, [&](const Index& at) {
    if (!covers(at[1], at[4], s.h, s.oh) || !covers(at[2], at[5], s.w, s.ow)) return;
    const std::int64_t y = ((at[0] * s.oh + at[1]) * s.ow + at[2]) * s.c + at[3];
    counted[y] += 1;
    list.push_back({y, ((at[0] * s.h + at[4]) * s.w + at[5]) * s.c + at[3], 1});
  });
  for (Coefficient& c : list) c.weight /= counted[c.y];
  return list;
}

/// Forward and adjoint of one linear map, in float against its coefficients and in double against each other.
void check_average(const Pool2d& s, const std::vector<Coefficient>& map, Forward forward, Forward adjoint,
                   ForwardF64 forward_f64, ForwardF64 adjoint_f64) {
  const std::vector<float> x = random_values(x_count(s), 1), dy = random_values(y_count(s), 2);
  std::vector<double> y(dy.size(), 0), y_size(dy.size(), 0), dx(x.size(), 0), dx_size(x.size(), 0);
  for (const Coefficient& c : map) {
    y[c.y] += c.weight * x[c.x];
    y_size[c.y] += std::abs(c.weight * x[c.x]);
    dx[c.x] += c.weight * dy[c.y];
    dx_size[c.x] += std::abs(c.weight * dy[c.y]);
  }
  const auto terms =
      static_cast<std::int64_t>(map.size() / std::max<std::size_t>(1, std::min(x.size(), dy.size()))) + 1;
  CHECK(worst_error(same_for_any_threads([&] {
                      std::vector<float> out(dy.size(), kNan);
                      forward(s, out.data(), x.data());
                      return out;
                    }),
                    y, y_size, terms) <= 1);
  CHECK(worst_error(same_for_any_threads([&] {
                      std::vector<float> out(x.size(), kNan);
                      adjoint(s, out.data(), dy.data());
                      return out;
                    }),
                    dx, dx_size, terms) <= 1);

  const std::vector<double> u = widened(x), v = widened(dy);
  std::vector<double> a_u(v.size()), at_v(u.size());
  forward_f64(s, a_u.data(), u.data());
  adjoint_f64(s, at_v.data(), v.data());
  double left = 0, right = 0, size = 0;
  for (std::size_t i = 0; i < v.size(); ++i) left += a_u[i] * v[i];
  for (std::size_t i = 0; i < u.size(); ++i) right += u[i] * at_v[i];
  for (const Coefficient& c : map) size += std::abs(c.weight * u[c.x] * v[c.y]);
  CHECK(std::abs(left - right) <=
        static_cast<double>(map.size()) * std::numeric_limits<double>::epsilon() * size);
}

}  // namespace

TEST_CASE("avg_pool2d and its adjoint") {
  for (const Table* table : tables()) {
    for (const Pool2d& s : kWindows) {
      if (s.dil_h != 1 || s.dil_w != 1) continue;
      CAPTURE(std::string(table->name));
      CAPTURE(s.c);
      CAPTURE(s.kernel_h);
      check_average(s, average_of_windows(s), table->f32.avg_pool2d, table->f32.avg_pool2d_adjoint,
                    table->f64.avg_pool2d, table->f64.avg_pool2d_adjoint);
    }
  }
}

TEST_CASE("adaptive_avg_pool2d and its adjoint") {
  std::vector<Pool2d> shapes;
  for (const auto& [c, h, w, oh, ow] : std::vector<std::array<std::int64_t, 5>>{{512, 7, 7, 1, 1},
                                                                                {67, 7, 9, 7, 9},
                                                                                {3, 10, 7, 3, 4},
                                                                                {5, 3, 4, 7, 6},
                                                                                {1, 1, 1, 3, 2},
                                                                                {33, 13, 8, 6, 1}}) {
    shapes.push_back({2, c, h, w, oh, ow, 0, 0, 0, 0, 0, 0, 0, 0, false});
  }
  for (const Table* table : tables()) {
    for (const Pool2d& s : shapes) {
      CAPTURE(std::string(table->name));
      CAPTURE(s.c);
      check_average(s, adaptive_average(s), table->f32.adaptive_avg_pool2d,
                    table->f32.adaptive_avg_pool2d_adjoint, table->f64.adaptive_avg_pool2d,
                    table->f64.adaptive_avg_pool2d_adjoint);
    }
  }
}

TEST_CASE("average pooling as PyTorch 2.15") {
  std::vector<double> five(25), four;
  for (int i = 0; i < 25; ++i) five[i] = i + 1;
  for (int i = 0; i < 16; ++i) four.push_back(five[i / 4 * 5 + i % 4]);
  struct Example {
    Pool2d shape;
    const std::vector<double>* x;
    std::vector<double> y;
  };
  const Example examples[] = {
      {{1, 1, 5, 5, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1, true},
       &five,
       {1.7777777777777777, 3.6666666666666665, 3.111111111111111, 7.666666666666667, 13.0, 9.666666666666666,
        8.444444444444445, 13.666666666666666, 9.777777777777779}},
      {{1, 1, 5, 5, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1, false}, &five, {4, 5.5, 7, 11.5, 13, 14.5, 19, 20.5, 22}},
      // ceil_mode
      {{1, 1, 4, 4, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1, true},
       &four,
       {1.7777777777777777, 3.6666666666666665, 2.1666666666666665, 7.666666666666667, 13.0, 7.0, 5.5, 9.0,
        4.75}},
      {{1, 1, 4, 4, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1, false}, &four, {4, 5.5, 6.5, 11.5, 13, 14, 16.5, 18, 19}},
  };
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    for (const Example& example : examples) {
      std::vector<double> y(9);
      table->f64.avg_pool2d(example.shape, y.data(), example.x->data());
      for (int i = 0; i < 9; ++i) CHECK(y[i] == doctest::Approx(example.y[i]).epsilon(1e-15));
    }
    std::vector<double> y(6);
    table->f64.adaptive_avg_pool2d({1, 1, 5, 5, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, false}, y.data(), five.data());
    const double adaptive[] = {6.5, 8.0, 9.5, 16.5, 18.0, 19.5};
    for (int i = 0; i < 6; ++i) CHECK(y[i] == doctest::Approx(adaptive[i]).epsilon(1e-15));
  }
}
