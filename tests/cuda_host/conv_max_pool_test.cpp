// A convolution whose sums blocks share, and the max pooling behind it in its second kernel, against one
// after the other: the same bits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda_host/capture.h"
#include "cuda_host/convolutions.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;
using namespace grapnel::kernels;
using namespace grapnel::cuda_host;

namespace {

struct Case {
  Conv2d conv;
  Pool2d pool;
};

/// Windows of that size and stride; the last may stick out by so many pixels.
Case pooled(const Conv2d& conv, std::array<Index, 2> kernel, std::array<Index, 2> stride, Index out = 0) {
  const auto windows = [&](Index in, std::size_t axis) {
    return (in + out - kernel[axis]) / stride[axis] + 1;
  };
  return {conv,
          {conv.n, conv.k, conv.oh, conv.ow, windows(conv.oh, 0), windows(conv.ow, 1), kernel[0], kernel[1],
           stride[0], stride[1], 0, 0, 1, 1, false}};
}

/// With every GPU and precision sums of these are split.
std::vector<Case> split_cases() {
  return {pooled(shape_of(1, 96, 5, 6, 40, {3, 1, 1}), {2, 2}, {2, 2}),     // a row is left out
          pooled(shape_of(1, 96, 5, 7, 36, {3, 1, 1}), {2, 2}, {2, 2}, 1),  // windows stick out
          pooled(shape_of(3, 96, 2, 5, 35, {3, 1, 1}), {1, 2}, {2, 3}),     // gaps; not of fours
          pooled(shape_of(1, 96, 9, 8, 66, {3, 2, 1}), {2, 3}, {2, 3}, 2)};
}

/// Of elements of both kinds, as bits.
template <class T>
std::vector<T> elements_of(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float value : values)
    if constexpr (std::is_same_v<T, float>) {
      result.push_back(value);
    } else {
      const float kept = rounded_to({value}, Precision::bf16)[0];
      std::uint32_t bits = 0;
      std::memcpy(&bits, &kept, sizeof bits);
      result.push_back({static_cast<std::uint16_t>(bits >> 16)});
    }
  return result;
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const T& x, const T& y) { return std::memcmp(&x, &y, sizeof(T)) == 0; });
}

/// Work that `body` did.
template <class Body>
Activity work_of(const Body& body) {
  const Activity before = activity();
  body();
  return {activity().launches - before.launches, activity().allocations - before.allocations};
}

/// What one convolution and its pooling read and write.
template <class T>
struct Operands {
  explicit Operands(const Case& of) : Operands(of, any_data_with_nan(of.conv)) {}
  Operands(const Case& of, const Data& d)
      : Operands(of, d, EpilogueOperands(count({of.conv.k}), d.dy.size())) {}

  Epilogue<T, float> all() const {
    return {.scale = scale.data(), .shift = shift.data(), .residual = residual.data(), .relu = true};
  }
  bool in_one(const Case& of, const Epilogue<T, float>& epilogue, T* to) const {
    return kernels->conv2d_max_pool(of.conv, of.pool, to, {x.data()}, packed.data(), epilogue);
  }
  void one_after_the_other(const Case& of, const Epilogue<T, float>& epilogue) const {
    kernels->conv2d_forward(of.conv, unpooled.data(), {x.data()}, packed.data(), epilogue);
    kernels->max_pool2d(of.pool, expected.data(), nullptr, unpooled.data());
  }

  Array<T> x, residual, unpooled, y, expected;
  Array<float> scale, shift, packed;

 private:
  Operands(const Case& of, const Data& d, const EpilogueOperands& e)
      : x(elements_of<T>(d.x)),
        residual(elements_of<T>(e.residual)),
        unpooled(e.residual.size()),
        y(elements_of<T>(std::vector<float>(count({of.pool.n, of.pool.oh, of.pool.ow, of.pool.c}), 77))),
        expected(y.values().size()),
        scale(e.scale),
        shift(e.shift),
        packed(cuda_table().f32.conv2d_packed_size(of.conv, ConvPass::forward)) {
    const Array<float> w(d.w);
    cuda_table().f32.conv2d_pack(of.conv, ConvPass::forward, packed.data(), w.data(),
                                 strides_of(of.conv, false).data());
    if constexpr (std::is_same_v<T, float>)
      kernels = &cuda_table().f32;
    else
      kernels = &cuda_table().bf16;
  }
  /// In the first pixel.
  static Data any_data_with_nan(const Conv2d& p) {
    Data d = any_data_for(p);
    if (!d.x.empty()) d.x[0] = NAN;
    return d;
  }

  const ActivationKernels<T, float>* kernels;
};

/// Calls body.operator()<element>() on both kinds of GPU in every precision.
template <class Body>
void everywhere(const Body& body) {
  const auto run = [&](Precision precision) {
    body.template operator()<float>();
    if (precision == Precision::bf16) body.template operator()<BFloat16>();
  };
  in_every_precision(run);
  on_hopper(run);
}

}  // namespace

TEST_CASE("conv2d_max_pool: the bits of the convolution and then the pooling, with a launch less") {
  everywhere([]<class T>() {
    for (const Case& of : split_cases()) {
      CAPTURE(of.conv.k);
      const Operands<T> o(of);
      const Activity apart = work_of([&] { o.one_after_the_other(of, o.all()); }),
                     together = work_of([&] { CHECK(o.in_one(of, o.all(), o.y.data())); });
      CHECK(together.launches + 1 == apart.launches);
      CHECK(same_bits(o.y.values(), o.expected.values()));
    }
  });
}

TEST_CASE("conv2d_max_pool: groups, and results that are not aligned") {
  const Case grouped = pooled(shape_of(1, 192, 4, 5, 24, {3, 1, 1, 1, 2}), {2, 2}, {2, 2});
  everywhere([&]<class T>() {
    const Operands<T> o(grouped);
    o.one_after_the_other(grouped, o.all());
    const std::vector<T> expected = o.expected.values();
    const Array<T> shifted(elements_of<T>(std::vector<float>(expected.size() + 1, 77)));
    CHECK(o.in_one(grouped, o.all(), shifted.data() + 1));
    const std::vector<T> got = shifted.values();
    CHECK(same_bits(std::vector<T>(got.begin() + 1, got.end()), expected));
  });
}

TEST_CASE("conv2d_max_pool: what bfloat16 keeps is compared, so that of two zeros the first wins") {
  const Case of = pooled(shape_of(1, 96, 2, 2, 32, {3, 1, 1}), {2, 2}, {2, 2});
  Data d = data_for(of.conv);
  std::fill(d.x.begin(), d.x.end(), 0.0f);
  std::fill(d.w.begin(), d.w.end(), 0.0f);
  d.x[0] = std::ldexp(1.0f, -70);
  d.w[4] = -d.x[0];  // of the first channels, in the middle
  const auto check = [&](Precision precision) {
    if (precision != Precision::bf16) return;
    const Operands<BFloat16> o(of, d);
    o.one_after_the_other(of, {});
    CHECK(o.expected[0].bits == 0x8000);  // -0 before 0
    CHECK(o.in_one(of, {}, o.y.data()));
    CHECK(same_bits(o.y.values(), o.expected.values()));
  };
  in_every_precision(check);
  on_hopper(check);
}

TEST_CASE("conv2d_max_pool: declines what one kernel alone makes, and other windows, and does nothing") {
  const Conv2d deep = shape_of(1, 96, 4, 5, 40, {3, 1, 1});
  std::vector<Case> cases = {pooled(shape_of(1, 32, 4, 4, 32, {1}), {2, 2}, {2, 2}),  // not split
                             pooled(shape_of(1, 3, 6, 6, 32, {3, 1, 1}), {2, 2}, {2, 2}),
                             pooled(deep, {2, 2}, {1, 2}),
                             pooled(deep, {2, 2}, {2, 1}),
                             pooled(shape_of(0, 96, 4, 5, 40, {1}), {2, 2}, {2, 2}),
                             pooled(shape_of(1, 96, 4, 5, 0, {1}), {2, 2}, {2, 2})};
  for (const auto change : {&Pool2d::pad_h, &Pool2d::pad_w}) {
    cases.push_back(pooled(deep, {2, 2}, {2, 2}));
    cases.back().pool.*change = 1;
  }
  for (const auto change : {&Pool2d::dil_h, &Pool2d::dil_w}) {
    cases.push_back(pooled(deep, {2, 2}, {2, 2}));
    cases.back().pool.*change = 2;
  }
  everywhere([&]<class T>() {
    for (std::size_t i = 0; i < cases.size(); ++i) {
      CAPTURE(i);
      const Operands<T> o(cases[i]);
      const std::vector<T> before = o.y.values();
      const Activity work = work_of([&] { CHECK_FALSE(o.in_one(cases[i], {}, o.y.data())); });
      CHECK(work.launches == 0);
      CHECK(work.allocations == 0);
      CHECK(same_bits(o.y.values(), before));
    }
    // Nobody asks for parts of the maxima, so none are made.
    const Case split = pooled(deep, {2, 2}, {2, 2});
    const Operands<T> o(split);
    const Array<std::uint16_t> parts(3 * o.expected.values().size());
    CHECK_FALSE(o.in_one(split, {.parts = {3, nullptr, parts.data()}}, o.y.data()));
    CHECK(o.in_one(split, {}, o.y.data()));
  });
}

TEST_CASE("conv2d_max_pool: under a Fusion where nothing is recorded, of what a convolution left") {
  Generator generator(5);
  const auto there = [&](const Shape& shape) { return Tensor::randn(shape, generator).to(Device::cuda()); };
  const Tensor x = there({1, 32, 5, 6}), v = there({96, 32, 1, 1}), w = there({40, 96, 3, 3});
  const NoGrad none;
  const auto before = [&] {
    Tensor y = relu(conv2d(x, v));
    y.storage()->compute();
    return y;
  };
  const auto layer = [&](const Tensor& of) {
    Tensor y = relu(conv2d(of, w, {}, {.padding = {1, 1}}));
    y = max_pool2d(y, {.kernel = {2, 2}});
    y.storage()->compute();
    return y;
  };
  const auto check = [&](Precision precision) {
    const std::vector<float> plain = layer(before()).to_vector<float>();
    const Fusion fusion;
    const Tensor input = before();
    CHECK(layer(input).to_vector<float>() ==
          (precision == Precision::bf16 ? rounded_to(plain, Precision::bf16) : plain));
    // One makes the sums of the splits, one adds them up.
    CHECK(work_of([&] { layer(input); }).launches == 2);
  };
  in_every_precision(check);
  on_hopper(check);
}
