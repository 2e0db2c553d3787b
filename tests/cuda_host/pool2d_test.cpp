// Pooling on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

const FloatKernels<float>& cuda() {
  static const FloatKernels<float> table = [] {
    FloatKernels<float> result{};
    fill_pool2d_cuda(result);
    return result;
  }();
  return table;
}

/// n, c, h, w, oh, ow, kernel, stride, padding, dilation.
const Pool2d kWindows[] = {
    {1, 8, 9, 9, 5, 5, 3, 3, 2, 2, 1, 1, 1, 1, true},    // ResNet's
    {2, 7, 8, 11, 4, 5, 2, 2, 2, 2, 0, 0, 1, 1, true},   // VGG's, with a column nobody sees
    {2, 3, 7, 6, 7, 6, 3, 3, 1, 1, 1, 1, 1, 1, false},   // overlapping
    {1, 4, 11, 5, 4, 2, 2, 3, 3, 4, 1, 1, 1, 1, false},  // gaps between windows
    {3, 1, 13, 10, 4, 7, 4, 2, 3, 1, 2, 1, 1, 1, true},  // uneven
    {1, 5, 12, 12, 4, 5, 3, 2, 2, 2, 0, 1, 2, 3, true},  // dilated
    {1, 4, 14, 9, 4, 3, 3, 3, 4, 3, 1, 0, 2, 1, true},   // dilation and stride share a factor
    {1, 8, 13, 4, 1, 1, 5, 2, 6, 1, 2, 0, 3, 2, true},
    {1, 12, 4, 4, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1, false},  // ceil mode: the last window sticks out
    {1, 12, 4, 4, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1, true},
    {2, 9, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, true},
    {1, 2, 16, 16, 1, 1, 16, 16, 1, 1, 0, 0, 1, 1, true},  // 256 taps
    {0, 4, 4, 4, 2, 2, 2, 2, 2, 2, 0, 0, 1, 1, true},
};

std::size_t inputs(const Pool2d& s) {
  return static_cast<std::size_t>(s.n * s.c * s.h * s.w);
}
std::size_t outputs(const Pool2d& s) {
  return static_cast<std::size_t>(s.n * s.c * s.oh * s.ow);
}

/// Equal, or NaN in both.
bool same(const std::vector<float>& got, const std::vector<float>& expected) {
  return std::equal(got.begin(), got.end(), expected.begin(), expected.end(),
                    [](float a, float b) { return a == b || (a != a && b != b); });
}

/// Few values, so that windows contain equal maxima; some NaN and infinities.
std::vector<float> values_with_ties(const Pool2d& s) {
  std::vector<float> x = cuda_host::numbers(inputs(s));
  for (float& value : x) value = std::round(value);
  for (std::size_t i = 0; i < x.size(); i += 31) x[i] = i % 2 ? kNan : -kInf;
  return x;
}

std::vector<std::uint8_t> winners_of(const Pool2d& s) {
  std::vector<float> y(outputs(s));
  std::vector<std::uint8_t> taps(y.size());
  cuda_host::reference().max_pool2d(s, y.data(), taps.data(), values_with_ties(s).data());
  return taps;
}

/// The same values from an element on that vectors may not start at.
std::vector<float> shifted(const std::vector<float>& values) {
  std::vector<float> result{0};
  result.insert(result.end(), values.begin(), values.end());
  return result;
}

}  // namespace

TEST_CASE("max_pool2d: values and winners, first of equals, NaN above all") {
  for (const Pool2d& s : kWindows) {
    CAPTURE(s.c);
    CAPTURE(s.h);
    const std::vector<float> values = values_with_ties(s);
    std::vector<float> expected(outputs(s));
    std::vector<std::uint8_t> winners(expected.size());
    cuda_host::reference().max_pool2d(s, expected.data(), winners.data(), values.data());
    const Array<float> x(values), x_shifted(shifted(values)), y(expected.size()), y_alone(expected.size());
    const Array<std::uint8_t> taps(expected.size());
    cuda().max_pool2d(s, y.data(), taps.data(), x.data());
    cuda().max_pool2d(s, y_alone.data(), nullptr, x_shifted.data() + 1);
    CHECK(same(y.values(), expected));
    CHECK(taps.values() == winners);
    CHECK(same(y_alone.values(), expected));
  }
}

TEST_CASE("max_pool2d_gather and max_pool2d_scatter follow the winners") {
  for (const Pool2d& s : kWindows) {
    CAPTURE(s.c);
    CAPTURE(s.h);
    const std::vector<std::uint8_t> winners = winners_of(s);
    const std::vector<float> x = cuda_host::numbers(inputs(s), 2), dy = cuda_host::numbers(outputs(s), 3);
    std::vector<float> y(dy.size()), dx(x.size());
    cuda_host::reference().max_pool2d_gather(s, y.data(), x.data(), winners.data());
    cuda_host::reference().max_pool2d_scatter(s, dx.data(), dy.data(), winners.data());
    const Array<std::uint8_t> taps(winners);
    const Array<float> device_x(x), device_dy(dy), device_y(y.size()), device_dx(x.size());
    cuda().max_pool2d_gather(s, device_y.data(), device_x.data(), taps.data());
    CHECK(same(device_y.values(), y));
    // Sums of so few bits are exact in float.
    cuda().max_pool2d_scatter(s, device_dx.data(), device_dy.data(), taps.data());
    CHECK(same(device_dx.values(), dx));
  }
}

TEST_CASE("a gradient that is NaN or infinite reaches only the winner") {
  const Pool2d s = {1, 4, 7, 7, 3, 3, 3, 3, 2, 2, 0, 0, 1, 1, true};
  std::vector<float> dy(outputs(s), kNan), expected(inputs(s));
  dy[0] = kInf;
  const std::vector<std::uint8_t> winners = winners_of(s);
  cuda_host::reference().max_pool2d_scatter(s, expected.data(), dy.data(), winners.data());
  const Array<float> device_dy(dy), dx(expected.size());
  const Array<std::uint8_t> taps(winners);
  cuda().max_pool2d_scatter(s, dx.data(), device_dy.data(), taps.data());
  CHECK(same(dx.values(), expected));
}

TEST_CASE("the first of all -infinity wins, not the padding before it") {
  const Pool2d s = {1, 2, 3, 3, 2, 2, 3, 3, 2, 2, 1, 1, 1, 1, true};
  const Array<float> x(std::vector<float>(inputs(s), -kInf)), y(outputs(s));
  const Array<std::uint8_t> taps(outputs(s));
  cuda().max_pool2d(s, y.data(), taps.data(), x.data());
  CHECK(y.values() == std::vector<float>(outputs(s), -kInf));
  CHECK(taps.values() == std::vector<std::uint8_t>{4, 4, 3, 3, 1, 1, 0, 0});
}

TEST_CASE("a window that sees only padding gives -infinity and passes no gradient") {
  // Taps at -1, 1 and 3 of a single pixel at 0, along both axes, or along one.
  for (const Pool2d& s : {Pool2d{1, 2, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1, 2, 2, true},
                          Pool2d{1, 2, 1, 1, 1, 1, 3, 1, 1, 1, 1, 0, 2, 1, true},
                          Pool2d{1, 2, 1, 1, 1, 1, 1, 3, 1, 1, 0, 1, 1, 2, true}}) {
    const Array<float> x({1, 2}), dy({3, 4}), y(2), dx(2), gathered(2);
    const Array<std::uint8_t> taps(2);
    cuda().max_pool2d(s, y.data(), taps.data(), x.data());
    CHECK(y.values() == std::vector<float>(2, -kInf));
    cuda().max_pool2d_scatter(s, dx.data(), dy.data(), taps.data());
    CHECK(dx.values() == std::vector<float>(2, 0));
    cuda().max_pool2d_gather(s, gathered.data(), x.data(), taps.data());
    CHECK(gathered.values() == std::vector<float>(2, 0));
  }
}

namespace {

using Map = void (*)(const Pool2d&, float*, const float*);

/// The reference rounds after each addition of `terms`.
void compare(const Pool2d& s, Map map, Map reference, std::size_t from, std::size_t to, double terms) {
  CAPTURE(s.c);
  CAPTURE(s.h);
  CAPTURE(s.oh);
  const std::vector<float> values = cuda_host::numbers(from);
  std::vector<float> expected(to);
  reference(s, expected.data(), values.data());
  const Array<float> x(values), x_shifted(shifted(values)), y(to), y_again(to);
  map(s, y.data(), x.data());
  map(s, y_again.data(), x_shifted.data() + 1);
  cuda_host::check_close(y.values(), expected, 4 + terms);
  CHECK(y.values() == y_again.values());
}

}  // namespace

TEST_CASE("avg_pool2d and its adjoint") {
  for (const Pool2d& s : kWindows) {
    if (s.dil_h != 1 || s.dil_w != 1) continue;
    const double terms = static_cast<double>(s.kernel_h * s.kernel_w);
    compare(s, cuda().avg_pool2d, cuda_host::reference().avg_pool2d, inputs(s), outputs(s), terms);
    compare(s, cuda().avg_pool2d_adjoint, cuda_host::reference().avg_pool2d_adjoint, outputs(s), inputs(s),
            terms);
  }
}

TEST_CASE("adaptive_avg_pool2d and its adjoint") {
  for (const auto& [n, c, h, w, oh, ow] : std::vector<std::array<std::int64_t, 6>>{{2, 36, 7, 7, 1, 1},
                                                                                   {1, 7, 7, 9, 7, 9},
                                                                                   {2, 3, 10, 7, 3, 4},
                                                                                   {1, 4, 3, 4, 7, 6},
                                                                                   {3, 1, 1, 1, 3, 2},
                                                                                   {1, 8, 13, 8, 6, 1},
                                                                                   {0, 8, 3, 3, 1, 1}}) {
    const Pool2d s = {n, c, h, w, oh, ow, 0, 0, 0, 0, 0, 0, 0, 0, false};
    const double terms = static_cast<double>((h / oh + 2) * (w / ow + 2));
    compare(s, cuda().adaptive_avg_pool2d, cuda_host::reference().adaptive_avg_pool2d, inputs(s), outputs(s),
            terms);
    compare(s, cuda().adaptive_avg_pool2d_adjoint, cuda_host::reference().adaptive_avg_pool2d_adjoint,
            outputs(s), inputs(s), terms);
  }
}

TEST_CASE("the average of equal values is that value") {
  const Pool2d s = {1, 4, 7, 7, 1, 1, 7, 7, 1, 1, 0, 0, 1, 1, true};
  const Array<float> x(std::vector<float>(inputs(s), 3)), y(outputs(s));
  for (const Map map : {cuda().avg_pool2d, cuda().adaptive_avg_pool2d}) {
    map(s, y.data(), x.data());
    CHECK(y.values() == std::vector<float>(4, 3));
  }
}
