// Convolutions and their gradients on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include <limits>
#include <string_view>

#include "cuda_host/convolutions.h"
#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/conv2d/sources.cuh"
#include "grapnel/kernels/gemm/multiply.cuh"
#include "grapnel/kernels/gemm/strided.cuh"

using namespace grapnel;
using namespace grapnel::kernels;
using namespace grapnel::cuda_host;

namespace {

const std::vector<Conv2d>& shapes() {
  static const std::vector<Conv2d> all = [] {
    std::vector<Conv2d> list = {
        shape_of(2, 8, 3, 4, 12, {1}),
        shape_of(2, 7, 5, 4, 9, {1, 2}),  // pixels of x that nobody reads
        shape_of(2, 8, 5, 6, 12, {3, 1, 1}),
        shape_of(1, 68, 10, 7, 72, {1}),     // more than a tile of pixels and of channels
        shape_of(1, 3, 9, 7, 6, {7, 2, 3}),  // a stem
        shape_of(2, 4, 7, 6, 8, {3, 2, 1}),
        shape_of(1, 5, 8, 7, 6, {3, 3, 2}),
        shape_of(1, 4, 7, 8, 8, {3, 1, 2, 2}),
        shape_of(1, 6, 8, 7, 5, {3, 2, 2, 2}),  // stride and dilation share a divisor
        shape_of(2, 8, 4, 5, 16, {3, 1, 1, 1, 2}),
        shape_of(1, 6, 5, 5, 9, {3, 2, 1, 1, 3}),
        shape_of(1, 4, 5, 6, 4, {3, 1, 1, 1, 4}),  // depthwise
        shape_of(1, 3, 7, 6, 6, {3, 2, 1, 1, 3}),
        shape_of(1, 3, 2, 3, 5, {5, 1, 2}),  // larger than the picture
    };
    Conv2d uneven = shape_of(1, 4, 6, 8, 6, {3, 2, 1});
    uneven.s = 4, uneven.stride_w = 1, uneven.pad_w = 2, uneven.dil_w = 3;
    uneven.ow = (uneven.w + 2 * uneven.pad_w - uneven.dil_w * (uneven.s - 1) - 1) / uneven.stride_w + 1;
    list.push_back(uneven);
    return list;
  }();
  return all;
}

}  // namespace

TEST_CASE("conv2d: all passes of all shapes, of numbers that are exact in TF32 and bfloat16, too") {
  for (std::size_t i = 0; i < shapes().size(); ++i) {
    CAPTURE(i);
    const Conv2d& p = shapes()[i];
    const Data d = data_for(p);
    const Results expected = expected_of(p, d);
    in_every_precision([&](Precision) { check_same(run(p, d), expected); });
  }
}

TEST_CASE("conv2d: weights that lie channels last") {
  const Conv2d p = shape_of(1, 6, 5, 6, 8, {3, 1, 1, 1, 2});
  in_every_precision(
      [&](Precision) { check_same(run(p, data_for(p), 0, true), expected_of(p, data_for(p), 0, true)); });
}

TEST_CASE("conv2d: each part of an epilogue, and all, of a sum in one part and in many, and by phases") {
  const Conv2d p = shape_of(2, 4, 2, 3, 6, {1, 1, 0, 1, 2}), strided = shape_of(1, 6, 5, 4, 8, {3, 2, 1});
  // A sum in parts meets its epilogue once, at the end.
  const Conv2d deep = shape_of(1, 260, 2, 3, 8, {1});
  in_every_precision([&](Precision) {
    for (const unsigned parts : {1u, 2u, 4u, 8u, 16u, 32u, kAllParts}) {
      CAPTURE(parts);
      check_same(run(p, data_for(p), parts), expected_of(p, data_for(p), parts));
    }
    for (const Conv2d& one : {deep, strided})
      check_same(run(one, data_for(one), kAllParts), expected_of(one, data_for(one), kAllParts));
  });
}

TEST_CASE("conv2d: any numbers, to the roundings of each precision") {
  const Conv2d p = shape_of(1, 12, 5, 6, 12, {3, 1, 1});
  const Data d = any_data_for(p);
  const Results expected = expected_of(p, d);
  in_every_precision([&](Precision precision) {
    const double most = precision == Precision::fp32 ? 1e-6 : precision == Precision::tf32 ? 0x1p-10 : 0x1p-8;
    const Results got = run(p, d);
    CHECK(distance(got.y, expected.y) < most);
    CHECK(distance(got.dx, expected.dx) < most);
    CHECK(distance(got.dw, expected.dw) < most);
  });
}

TEST_CASE("conv2d: tiles of 128 x 64 by FMAs, which the table takes for large products only") {
  const Conv2d p = shape_of(1, 4, 12, 11, 132, {3, 1, 1});
  const ConvShape shape = conv_shape(p);
  const Data d = data_for(p);
  const Array<float> x(d.x), dy(d.dy), dw(d.w.size());
  run_product<MultiplyFloat<128, 64>>(
      "conv2d_weight_grad", {1, 132, 36, 132, 1}, Strided<float, false, 4>{dy.data(), 1, 132, 132, 0},
      Patches<float, false, 4>{x.data(), shape, 4, 4}, StoreSum{dw.data(), nullptr, 36});
  // (k, (r, s, c)) here, (k, c, r, s) there.
  const std::vector<float> got = dw.values();
  std::vector<float> turned(got.size());
  for (std::size_t k = 0; k < 132; ++k)
    for (std::size_t tap = 0; tap < 9; ++tap)
      for (std::size_t c = 0; c < 4; ++c) turned[(k * 4 + c) * 9 + tap] = got[k * 36 + tap * 4 + c];
  check_close(turned, expected_of(p, d).dw, 8);
}

TEST_CASE("conv2d: a weight gradient of many pixels has the same bits every time") {
  const Conv2d p = shape_of(1, 3, 17, 16, 2, {1});
  const Data d = any_data_for(p);
  const std::vector<float> dw = run(p, d).dw;
  check_close(dw, expected_of(p, d).dw, 8);
  CHECK(dw == run(p, d).dw);
}

TEST_CASE("conv2d: what indices are divided by, exactly") {
  constexpr int kMost = std::numeric_limits<int>::max();
  for (const int d : {1, 2, 3, 5, 7, 64, 112, 641, 65535, 65536, 1 << 30, (1 << 30) + 1, kMost - 1, kMost})
    for (const int times : {0, 1, 2, 3, 1000, kMost / d - 1, kMost / d})
      for (const std::int64_t off : {-1, 0, 1}) {
        const std::int64_t n = std::int64_t{d} * times + off;
        if (n < 0 || n > kMost) continue;
        CHECK(static_cast<int>(n) / Divisor(d) == n / d);
        CHECK(static_cast<int>(n) % Divisor(d) == n % d);
      }
}

TEST_CASE("conv2d: NaN reaches what reads it, and nothing else") {
  const Conv2d p = shape_of(1, 4, 6, 6, 4, {3, 1, 1});
  Data d = data_for(p);
  d.x[0] = d.dy[(2 * 6 + 3) * 4 + 1] = NAN;  // not at the border of dy: 0 times NaN would be NaN
  const Results expected = expected_of(p, d);
  in_every_precision([&](Precision) {
    const Results got = run(p, d);
    check_same(got, expected);
    for (std::size_t i = 0; i < got.y.size(); ++i) CHECK(std::isnan(got.y[i]) == std::isnan(expected.y[i]));
  });
}

TEST_CASE("conv2d: no picture, no filter, a gradient of nothing is zero") {
  for (const Conv2d& p : {shape_of(0, 4, 5, 5, 8, {3, 1, 1}), shape_of(1, 4, 5, 5, 0, {3, 1, 1})})
    in_every_precision([&](Precision) { check_same(run(p, data_for(p)), expected_of(p, data_for(p))); });
}

TEST_CASE("conv2d: what a pass is made by, without Hopper") {
  const Conv2d p = shape_of(2, 64, 8, 8, 64, {3, 1, 1}), odd = shape_of(2, 3, 8, 8, 6, {3, 2, 1, 1, 3});
  in_every_precision([&](Precision precision) {
    const std::string_view name = precision == Precision::fp32   ? "implicit_gemm"
                                  : precision == Precision::tf32 ? "ampere_tf32"
                                                                 : "ampere_bf16";
    for (const ConvPass pass : {ConvPass::forward, ConvPass::input_grad, ConvPass::weight_grad})
      for (const Conv2d& one : {p, odd}) CHECK(cuda_conv2d().conv2d_variant(one, pass) == name);
  });
}

TEST_CASE("conv2d: more pixels than an int counts are refused") {
  const Conv2d p = shape_of(40000, 1, 300, 300, 1, {1});
  const Array<float> one(1);
  CHECK_THROWS_AS(cuda_conv2d().conv2d_forward(p, one.data(), one.data(), one.data(), {}), DeviceFault);
}
