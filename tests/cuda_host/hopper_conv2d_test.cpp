// Convolutions by tensor maps and warpgroup products on the model of a Hopper, against the reference.
#include <doctest/doctest.h>

#include <limits>
#include <string_view>

#include "cuda_host/convolutions.h"

using namespace grapnel;
using namespace grapnel::kernels;
using namespace grapnel::cuda_host;

namespace {

bool by_hopper(const Conv2d& p, ConvPass pass) {
  return std::string_view(cuda_conv2d().conv2d_variant(p, pass)).starts_with("hopper_");
}

/// Those that are made by these kernels.
Passes passes_of(const Conv2d& p) {
  return {by_hopper(p, ConvPass::forward), by_hopper(p, ConvPass::input_grad),
          by_hopper(p, ConvPass::weight_grad)};
}
Results run_there(const Conv2d& p, const Data& d, unsigned parts = 0, bool last = false) {
  return run(p, d, parts, last, passes_of(p));
}
Results expected_there(const Conv2d& p, const Data& d, unsigned parts = 0, bool last = false) {
  return expected_of(p, d, parts, last, passes_of(p));
}
void check(const Conv2d& p, unsigned parts = 0, bool last = false) {
  CAPTURE(p.k);
  CHECK(by_hopper(p, ConvPass::forward));
  check_same(run_there(p, data_for(p), parts, last), expected_there(p, data_for(p), parts, last));
}

void check_weight_grad(const Conv2d& p) {
  CAPTURE(p.h);
  CAPTURE(p.stride_w);
  CHECK(by_hopper(p, ConvPass::weight_grad));
  const Passes passes{false, false, true};
  const Data d = data_for(p);
  check_same(run(p, d, 0, false, passes), expected_of(p, d, 0, false, passes));
}

/// The second tile begins within a row.
Conv2d uneven() {
  Conv2d p = shape_of(2, 32, 23, 14, 40, {3, 2, 1});
  p.s = 4, p.stride_w = 1, p.pad_w = 2, p.dil_w = 3;
  p.ow = (p.w + 2 * p.pad_w - p.dil_w * (p.s - 1) - 1) / p.stride_w + 1;
  return p;
}

/// Taps and strides differ in height and width.
Conv2d oblong(Index channels = 32, Index width = 6, Index stride_w = 3, Index dil_w = 1) {
  Conv2d p = shape_of(2, channels, 11, width, 64, {2, 1, 0});
  p.s = 4, p.stride_w = stride_w, p.pad_w = 2, p.dil_w = dil_w;
  p.ow = (p.w + 2 * p.pad_w - p.dil_w * (p.s - 1) - 1) / p.stride_w + 1;
  return p;
}

}  // namespace

TEST_CASE("Hopper, conv2d: both passes of all shapes") {
  const Conv2d shapes[] = {
      shape_of(2, 40, 5, 7, 40, {3, 1, 1}),     // channels beyond a step, or less than one
      shape_of(1, 32, 12, 13, 72, {1}),         // more than a tile of pixels; tiles of 128 channels
      shape_of(3, 32, 9, 7, 136, {3, 2, 1}),    // a tile across pictures; two of channels; steps
      shape_of(1, 32, 6, 8, 32, {3, 1, 2, 2}),  // taps apart
      shape_of(1, 32, 5, 4, 48, {1, 1, 1}),     // y is larger than x
      shape_of(2, 32, 7, 6, 36, {3, 3, 2}),     // pixels that nobody reads
      uneven(),
      shape_of(1, 96, 3, 2, 64, {3, 1, 1}),  // sums in parts
  };
  on_hopper([&](Precision) {
    for (const Conv2d& p : shapes) check(p);
  });
}

TEST_CASE("Hopper, conv2d: the weight gradient, of bfloat16 as it lies") {
  const Conv2d shapes[] = {
      shape_of(3, 32, 5, 7, 64, {3, 1, 1}),       // pixels of three pictures in a step
      shape_of(1, 40, 9, 8, 136, {3, 2, 1}),      // channels and filters beyond a tile
      shape_of(2, 32, 8, 9, 64, {3, 1, 0}),       // no border at all
      shape_of(2, 72, 4, 5, 64, {1}),             // one tap
      shape_of(2, 32, 9, 6, 64, {1, 2}),          // pixels that nobody reads
      shape_of(2, 32, 7, 6, 64, {1, 1, 1}),       // y is larger than x
      shape_of(1, 32, 13, 12, 64, {3, 1, 2, 2}),  // taps apart
      shape_of(1, 32, 17, 18, 64, {3, 4, 0}),     // a stride larger than the filter
      oblong(),
      shape_of(5, 32, 16, 12, 64, {3, 1, 1}),  // sums in parts
  };
  on_hopper([&](Precision precision) {
    if (precision != Precision::tf32)
      for (const Conv2d& p : shapes) check_weight_grad(p);
  });
}

TEST_CASE(
    "Hopper, conv2d: the weight gradient in TF32, with and without what serves two pictures as border") {
  const Conv2d shapes[] = {
      shape_of(3, 256, 5, 7, 64, {3, 1, 1}),       // one border between two pictures
      shape_of(1, 258, 6, 5, 136, {3, 1, 1}),      // channels and filters beyond a tile, not of fours
      shape_of(2, 256, 8, 9, 64, {3, 1, 0}),       // no border at all
      shape_of(2, 300, 4, 5, 65, {1}),             // one tap
      shape_of(2, 256, 7, 6, 64, {1, 1, 1}),       // y is larger than x
      shape_of(1, 256, 13, 12, 64, {3, 1, 2, 2}),  // taps apart
      oblong(256, 6, 1),
      oblong(256, 16, 1, 2),
      shape_of(5, 256, 16, 12, 64, {3, 1, 1}),  // sums in parts
  };
  on_hopper([&](Precision precision) {
    if (precision == Precision::tf32)
      for (const Conv2d& p : shapes) check_weight_grad(p);
  });
}

TEST_CASE("Hopper, conv2d: the input's gradient by phases") {
  const Conv2d shapes[] = {
      shape_of(2, 33, 9, 8, 32, {3, 2, 1}),       // of one tap, two, two and four
      shape_of(1, 32, 7, 6, 40, {1, 2}),          // of one tap and of none
      shape_of(1, 136, 3, 4, 32, {1, 2}),         // the same, of more columns than most tiles have
      shape_of(1, 70, 12, 11, 32, {3, 3, 0}),     // pixels behind the last that is read
      shape_of(1, 32, 13, 12, 32, {3, 2, 2, 2}),  // taps and pixels two apart: phases of all taps and of none
      shape_of(1, 32, 13, 14, 32, {3, 2, 1, 3}),
      shape_of(1, 32, 1, 5, 32, {3, 2, 1}),  // phases without a row
      oblong(),
  };
  on_hopper([&](Precision) {
    for (const Conv2d& p : shapes) {
      CAPTURE(p.h);
      CAPTURE(p.stride_w);
      REQUIRE(by_hopper(p, ConvPass::input_grad));
      const Passes passes{false, true, false};
      const Data d = data_for(p);
      for (const unsigned parts : {0u, kAllParts})
        check_same(run(p, d, parts, parts == 0, passes), expected_of(p, d, parts, parts == 0, passes));
    }
  });
}

TEST_CASE("Hopper, conv2d: each part of an epilogue, and all, of a sum in one part and in many") {
  const Conv2d p = shape_of(1, 32, 3, 5, 40, {1}), deep = shape_of(1, 512, 1, 3, 33, {1});
  on_hopper([&](Precision) {
    for (const unsigned parts : {1u, 2u, 4u, 8u, 16u, 32u, kAllParts}) check(p, parts);
    check(deep, kAllParts, true);
  });
}

TEST_CASE(
    "Hopper, conv2d: any numbers are rounded as the mode says, then summed exactly, the same bits twice") {
  on_hopper([&](Precision precision) {
    const Conv2d p = shape_of(1, precision == Precision::tf32 ? 256 : 64, 9, 10, 72, {3, 1, 1});
    const Data d = any_data_for(p);
    REQUIRE(by_hopper(p, ConvPass::weight_grad));
    const Data rounded{rounded_to(d.x, precision), rounded_to(d.w, precision), rounded_to(d.dy, precision)};
    const Results got = run_there(p, d), expected = expected_there(p, rounded);
    check_close(got.y, expected.y, 16);
    check_close(got.dx, expected.dx, 16);
    check_close(got.dw, expected.dw, 16);
    const Results again = run_there(p, d);
    CHECK(got.y == again.y);
    CHECK(got.dx == again.dx);
    CHECK(got.dw == again.dw);
  });
}

TEST_CASE("Hopper, conv2d: tiles of 256 columns, of filters and of several taps' channels") {
  const Conv2d many_pixels = shape_of(1, 32, 93, 93, 136, {1});
  for (const Precision precision : {Precision::tf32, Precision::bf16}) {
    const WithHopper hopper;
    set_precision(precision);
    const Conv2d many_filters = shape_of(1, precision == Precision::tf32 ? 256 : 136, 4, 4, 1024, {3, 1, 1});
    const Data of_pixels = data_for(many_pixels), of_filters = data_for(many_filters);
    const Passes forward{true, false, false}, weight_grad{false, false, true};
    check_same(run(many_pixels, of_pixels, 0, false, forward),
               expected_of(many_pixels, of_pixels, 0, false, forward));
    check_same(run(many_filters, of_filters, 0, false, weight_grad),
               expected_of(many_filters, of_filters, 0, false, weight_grad));
  }
  set_precision(Precision::fp32);
}

TEST_CASE("Hopper, conv2d: in fp32 no less exact than by float FMAs") {
  const Conv2d p = shape_of(1, 64, 12, 11, 64, {3, 1, 1});
  const Data d = any_data_for(p);
  const Results exact = expected_of(p, d), by_fmas = run(p, d);
  const WithHopper hopper;
  REQUIRE(by_hopper(p, ConvPass::forward));
  const Results got = run(p, d);
  CHECK(distance(got.y, exact.y) <= distance(by_fmas.y, exact.y));
  CHECK(distance(got.dx, exact.dx) <= distance(by_fmas.dx, exact.dx));
  CHECK(distance(got.dw, exact.dw) <= distance(by_fmas.dw, exact.dw));
}

TEST_CASE("Hopper, conv2d: pictures and results that are not aligned") {
  const Conv2d p = shape_of(1, 32, 4, 5, 32, {3, 1, 1});
  const Data d = any_data_for(p);
  std::vector<float> shifted = d.x;
  shifted.insert(shifted.begin(), 99);
  const WithHopper hopper;
  const Array<float> x(d.x), off(shifted), w(d.w), y(d.dy.size()),
      packed(cuda_conv2d().conv2d_packed_size(p, ConvPass::forward)),
      z(std::vector<float>(d.dy.size() + 1, 77));
  in_every_precision([&](Precision) {
    cuda_conv2d().conv2d_pack(p, ConvPass::forward, packed.data(), w.data(), strides_of(p, false).data());
    cuda_conv2d().conv2d_forward(p, y.data(), x.data(), packed.data(), {});
    cuda_conv2d().conv2d_forward(p, z.data() + 1, off.data() + 1, packed.data(), {});
    std::vector<float> want = y.values();
    want.insert(want.begin(), 77);
    CHECK(z.values() == want);
  });
}

TEST_CASE("Hopper, conv2d: NaN and infinity reach what reads them, and nothing else") {
  const Conv2d p = shape_of(1, 32, 6, 6, 32, {3, 1, 1});
  Data d = data_for(p);
  d.x[0] = NAN, d.x[5 * 6 * 32] = INFINITY;
  d.dy[1] = std::numeric_limits<float>::signaling_NaN();
  const Results expected = expected_of(p, d);
  on_hopper([&](Precision) {
    const Results got = run_there(p, d);
    for (std::size_t i = 0; i < got.y.size(); ++i) {
      CHECK(std::isfinite(got.y[i]) == std::isfinite(expected.y[i]));
      CHECK(std::isnan(got.dx[i]) == std::isnan(expected.dx[i]));
    }
  });
}

TEST_CASE("Hopper, conv2d: which passes run there") {
  const Conv2d p = shape_of(2, 256, 8, 8, 64, {3, 1, 1});
  const auto variant = [](const Conv2d& of, ConvPass pass) {
    return std::string_view(cuda_conv2d().conv2d_variant(of, pass));
  };
  on_hopper([&](Precision precision) {
    const bool tf32 = precision == Precision::tf32;
    const std::string_view name = tf32                           ? "hopper_tf32"
                                  : precision == Precision::bf16 ? "hopper_bf16"
                                                                 : "hopper_fp32";
    for (const ConvPass pass : {ConvPass::forward, ConvPass::input_grad, ConvPass::weight_grad})
      CHECK(variant(p, pass) == name);
    const auto weights = [&](Index c, Index k, Window window) {
      return by_hopper(shape_of(1, c, 40, 40, k, window), ConvPass::weight_grad);
    };
    CHECK(weights(257, 65, {3, 1, 1}) == tf32);
    CHECK(weights(256, 64, {3, 1, 1}));
    CHECK(weights(255, 64, {3, 1, 1}) == false);
    CHECK(weights(248, 64, {3, 1, 1}) == !tf32);
    CHECK(weights(32, 64, {3, 2, 1}) == !tf32);
    CHECK_FALSE(weights(24, 64, {3}));
    CHECK_FALSE(weights(256, 63, {3}));
    CHECK_FALSE(weights(256, 64, {3, 1, 1, 1, 2}));
    CHECK(weights(256, 64, {3, 1, 1, 2}));
    CHECK(weights(256, 64, {3, 2, 1}) == !tf32);
    CHECK(weights(256, 64, {11}));
    CHECK(weights(256, 64, {27}) == !tf32);  // more zeros than pixels, flat
    const auto forward = [](Index c, Index k, Window window) {
      return by_hopper(shape_of(1, c, 400, 400, k, window), ConvPass::forward);
    };
    CHECK(forward(36, 32, {3}) == tf32);
    CHECK_FALSE(forward(38, 32, {3}));
    CHECK(forward(16, 32, {3}) == tf32);
    CHECK_FALSE(forward(12, 32, {3}));
    CHECK_FALSE(forward(64, 31, {3}));
    CHECK_FALSE(forward(64, 64, {3, 1, 1, 1, 2}));
    CHECK(forward(64, 64, {3, 8}));
    CHECK_FALSE(forward(64, 64, {3, 9}));
    CHECK(forward(64, 64, {2, 1, 0, 128}));
    CHECK_FALSE(forward(64, 64, {2, 1, 0, 129}));
    CHECK(forward(64, 64, {3, 1, 127, 127}));
    CHECK_FALSE(forward(64, 64, {3, 1, 128, 128}));  // an upper corner of 128 - 256, an offset of 256
    CHECK(by_hopper(shape_of(2, 64, 8, 8, 64, {3, 2, 1}), ConvPass::input_grad));
    CHECK_FALSE(by_hopper(shape_of(2, 64, 200, 8, 64, {3, 1, 129}), ConvPass::input_grad));
  });
}

TEST_CASE("Hopper, conv2d: no picture") {
  const Conv2d p = shape_of(0, 32, 5, 5, 32, {3, 1, 1});
  on_hopper([&](Precision) { check(p); });
}

TEST_CASE("Hopper, conv2d: passes that run there and passes that do not, of one convolution") {
  const Conv2d p = shape_of(1, 32, 5, 4, 33, {3, 2, 1});
  on_hopper([&](Precision) { check_same(run(p, data_for(p)), expected_of(p, data_for(p))); });
}
