// Bilinear and nearest resampling against their definitions, and the adjoint against the forward.
#include <doctest/doctest.h>

#include <algorithm>
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

/// n, c, h, w, oh, ow, bilinear, align_corners.
std::vector<Interpolate> shapes() {
  std::vector<Interpolate> list;
  for (Interpolate s : {Interpolate{1, 1, 7, 7, 32, 32, false, false},
                        {2, 3, 5, 8, 5, 8, false, false},
                        {1, 67, 9, 4, 4, 9, false, false},
                        {2, 1, 1, 1, 3, 4, false, false},
                        {1, 33, 13, 11, 1, 1, false, false},
                        {1, 5, 3, 10, 7, 6, false, false},
                        {0, 2, 3, 3, 2, 2, false, false},
                        {2, 40, 60, 20, 61, 40, false, false},
                        {3, 16, 40, 30, 81, 17, false, false}}) {
    list.push_back(s);
    s.bilinear = true;
    list.push_back(s);
    s.align_corners = true;
    list.push_back(s);
  }
  return list;
}

/// The weight of input `i` in output `o` along one axis.
double weight(std::int64_t o, std::int64_t i, std::int64_t in, std::int64_t out, const Interpolate& s) {
  const double position = static_cast<double>(i), target = static_cast<double>(o),
               size = static_cast<double>(in), count = static_cast<double>(out);
  if (!s.bilinear) return std::min(size - 1, std::floor(target * size / count)) == position ? 1 : 0;
  double source = s.align_corners ? (out > 1 ? target * (size - 1) / (count - 1) : 0)
                                  : (target + 0.5) * size / count - 0.5;
  source = std::clamp(source, 0.0, size - 1);
  return std::max(0.0, 1 - std::abs(source - position));
}

/// y (n, oh, ow, c), and the sum of its terms' magnitudes, by weighing every input for every output; or the
/// other way round.
void apply(const Interpolate& s, bool adjoint, const std::vector<float>& in, std::vector<double>& out,
           std::vector<double>& size) {
  for (std::int64_t oh = 0; oh < s.oh; ++oh) {
    for (std::int64_t h = 0; h < s.h; ++h) {
      const double weight_h = weight(oh, h, s.h, s.oh, s);
      for (std::int64_t ow = 0; ow < s.ow && weight_h > 0; ++ow) {
        for (std::int64_t w = 0; w < s.w; ++w) {
          const double both = weight_h * weight(ow, w, s.w, s.ow, s);
          for_each_index({both > 0 ? s.n : 0, s.c}, [&](const Index& at) {
            const std::int64_t y = ((at[0] * s.oh + oh) * s.ow + ow) * s.c + at[1];
            const std::int64_t x = ((at[0] * s.h + h) * s.w + w) * s.c + at[1];
            out[adjoint ? x : y] += both * in[adjoint ? y : x];
            size[adjoint ? x : y] += std::abs(both * in[adjoint ? y : x]);
          });
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("interpolate and its adjoint, for any number of threads") {
  for (const Table* table : tables()) {
    for (const Interpolate& s : shapes()) {
      CAPTURE(std::string(table->name));
      CAPTURE(s.h);
      CAPTURE(s.bilinear);
      CAPTURE(s.align_corners);
      const std::vector<float> x = random_values(s.n * s.h * s.w * s.c, 1),
                               dy = random_values(s.n * s.oh * s.ow * s.c, 2);
      std::vector<double> y(dy.size(), 0), y_size = y, dx(x.size(), 0), dx_size = dx;
      apply(s, false, x, y, y_size);
      apply(s, true, dy, dx, dx_size);
      const float nan = std::numeric_limits<float>::quiet_NaN();
      const auto got_y = same_for_any_threads([&] {
        std::vector<float> out(dy.size(), nan);
        table->f32.interpolate(s, out.data(), x.data());
        return out;
      });
      const auto got_dx = same_for_any_threads([&] {
        std::vector<float> out(x.size(), nan);
        table->f32.interpolate_adjoint(s, out.data(), dy.data());
        return out;
      });
      CHECK(worst_error(got_y, y, y_size, 4) <= 1);
      CHECK(worst_error(got_dx, dx, dx_size, 4 * (s.oh / s.h + 1) * (s.ow / s.w + 1)) <= 1);
    }
  }
}

TEST_CASE("interpolate in double: <A x, y> = <x, A' y>") {
  for (const Table* table : tables()) {
    for (const Interpolate& s : shapes()) {
      CAPTURE(std::string(table->name));
      CAPTURE(s.h);
      const std::vector<double> x = widened(random_values(s.n * s.h * s.w * s.c, 1));
      const std::vector<double> y = widened(random_values(s.n * s.oh * s.ow * s.c, 2));
      std::vector<double> ax(y.size()), aty(x.size());
      table->f64.interpolate(s, ax.data(), x.data());
      table->f64.interpolate_adjoint(s, aty.data(), y.data());
      double left = 0, right = 0;
      for (std::size_t i = 0; i < y.size(); ++i) left += ax[i] * y[i];
      for (std::size_t i = 0; i < x.size(); ++i) right += x[i] * aty[i];
      // Every term is at most 1 in magnitude, each y is an average of x.
      const double terms = 8 * static_cast<double>(y.size());
      CHECK(std::abs(left - right) <=
            terms * std::numeric_limits<double>::epsilon() * static_cast<double>(y.size()));
    }
  }
}

TEST_CASE("interpolate as PyTorch 2.15") {
  const std::vector<double> x = {1, 2, 4, 7, 11, 16};
  struct Example {
    Interpolate shape;
    std::vector<double> y;
  };
  const Example examples[] = {
      {{1, 1, 2, 3, 3, 5, true, false}, {1, 1.4, 2, 3.2, 4, 4, 5, 6.5, 8.6, 10, 7, 8.6, 11, 14, 16}},
      {{1, 1, 2, 3, 1, 2, true, false}, {4.625, 9.125}},
      {{1, 1, 2, 3, 3, 5, true, true}, {1, 1.5, 2, 3, 4, 4, 5.25, 6.5, 8.25, 10, 7, 9, 11, 13.5, 16}},
      {{1, 1, 2, 3, 1, 2, true, true}, {1, 4}},
      {{1, 1, 2, 3, 3, 5, false, false}, {1, 1, 2, 2, 4, 1, 1, 2, 2, 4, 7, 7, 11, 11, 16}},
  };
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    for (const Example& example : examples) {
      std::vector<double> y(example.y.size());
      table->f64.interpolate(example.shape, y.data(), x.data());
      for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == doctest::Approx(example.y[i]).epsilon(1e-14));
    }
    // Nearest is computed in float: exactly, output 41 of 82 would read input 1 of 2.
    const std::vector<float> two = {0, 1};
    std::vector<float> many(82);
    table->f32.interpolate({1, 1, 1, 2, 1, 82, false, false}, many.data(), two.data());
    CHECK(many[41] == 0);
    CHECK(many[42] == 1);
  }
}
