// First convolutions, of few channels, on the model of a Hopper, against the reference.
#include <doctest/doctest.h>

#include <limits>
#include <string_view>

#include "cuda_host/convolutions.h"
#include "grapnel/kernels/conv2d/hopper_stem.cuh"

using namespace grapnel;
using namespace grapnel::kernels;
using namespace grapnel::cuda_host;

namespace {

constexpr Passes kBoth{true, false, true};

bool by_stem(const Conv2d& p, ConvPass pass) {
  return std::string_view(cuda_conv2d().conv2d_variant(p, pass)).starts_with("hopper_stem_");
}

void check(const Conv2d& p, unsigned parts = 0, bool last = false) {
  CAPTURE(p.c);
  CAPTURE(p.r);
  CAPTURE(p.h);
  CHECK(by_stem(p, ConvPass::forward));
  CHECK(by_stem(p, ConvPass::weight_grad) == (p.k % 8 == 0));
  const Data d = data_for(p);
  check_same(run(p, d, parts, last, kBoth), expected_of(p, d, parts, last, kBoth));
}

/// Taps, strides and paddings differ in height and width.
Conv2d oblong() {
  Conv2d p = shape_of(2, 3, 14, 9, 32, {4, 3, 0});
  p.s = 5, p.stride_w = 1, p.pad_w = 4;
  p.ow = p.w + 2 * p.pad_w - p.s + 1;
  return p;
}

/// A sum of many steps for few pixels.
Conv2d column() {
  Conv2d p = shape_of(1, 2, 70, 3, 40, {1});
  p.r = 65, p.oh = p.h - p.r + 1;
  return p;
}

Data magnitudes(Data d) {
  for (auto* values : {&d.x, &d.w, &d.dy})
    for (float& value : *values) value = std::abs(value);
  return d;
}

}  // namespace

TEST_CASE("Hopper, stem: forward and weight gradient of all shapes") {
  const Conv2d shapes[] = {
      shape_of(1, 3, 37, 19, 64, {7, 2, 3}),   // that of ResNet; tiles beyond both edges
      shape_of(2, 3, 17, 18, 64, {3, 1, 1}),   // that of VGG
      shape_of(2, 1, 16, 28, 32, {5}),         // no border; rows of the filter fill a pixel
      shape_of(3, 2, 7, 9, 40, {2, 2, 1}),     // several pictures a tile wide
      shape_of(1, 4, 9, 8, 36, {3, 2, 2}),     // a wide border; filters that are no multiple of 8
      shape_of(1, 3, 6, 5, 33, {1}),           // one tap; results one by one
      shape_of(1, 3, 11, 10, 72, {3, 4, 1}),   // pixels that nobody reads; tiles of 128 filters
      shape_of(1, 3, 15, 19, 32, {11, 4, 2}),  // rows of the filter beyond a step
      shape_of(1, 4, 2, 3, 32, {5, 1, 3}),     // the filter is larger than the picture
      shape_of(1, 1, 2, 70, 160, {3, 1, 1}),   // tiles as wide as 64 or 128; of 256 filters
      oblong(),
  };
  on_hopper([&](Precision) {
    for (const Conv2d& p : shapes) check(p);
  });
}

TEST_CASE("Hopper, stem: each part of an epilogue, and all, of a sum in one part and in many") {
  const Conv2d p = shape_of(1, 3, 5, 9, 40, {3, 1, 1}), tall = column();
  on_hopper([&](Precision) {
    for (const unsigned parts : {1u, 2u, 4u, 8u, 16u, 32u, kAllParts}) check(p, parts);
    check(tall, kAllParts, true);
  });
}

TEST_CASE(
    "Hopper, stem: any numbers are rounded as the mode says, then summed exactly, the same bits twice") {
  const Conv2d p = shape_of(2, 3, 21, 19, 64, {7, 2, 3});
  const Data d = any_data_for(p);
  const Results exact = expected_of(p, d, 0, false, kBoth),
                terms = expected_of(p, magnitudes(d), 0, false, kBoth);
  on_hopper([&](Precision precision) {
    const Data rounded{rounded_to(d.x, precision), rounded_to(d.w, precision), rounded_to(d.dy, precision)};
    const Results got = run(p, d, 0, false, kBoth), expected = expected_of(p, rounded, 0, false, kBoth);
    check_close(got.y, expected.y, 16);
    if (precision == Precision::tf32) {
      // Of two parts: what is behind 16 bits of a factor, and the product of both second parts.
      std::size_t wrong = 0, rounded_off = 0;
      for (std::size_t i = 0; i < got.dw.size(); ++i) {
        wrong += std::abs(got.dw[i] - exact.dw[i]) > terms.dw[i] * 0x1p-13f;
        rounded_off += got.dw[i] != exact.dw[i];
      }
      CHECK(wrong == 0);
      CHECK(rounded_off > 0);
    } else {
      check_close(got.dw, expected.dw, 16);
    }
    const Results again = run(p, d, 0, false, kBoth);
    CHECK(got.y == again.y);
    CHECK(got.dw == again.dw);
  });
}

TEST_CASE("Hopper, stem: in fp32 no less exact than by float FMAs") {
  const Conv2d p = shape_of(1, 3, 24, 26, 64, {7, 2, 3});
  const Data d = any_data_for(p);
  const Results exact = expected_of(p, d, 0, false, kBoth), by_fmas = run(p, d, 0, false, kBoth);
  const WithHopper hopper;
  REQUIRE(by_stem(p, ConvPass::forward));
  const Results got = run(p, d, 0, false, kBoth);
  CHECK(distance(got.y, exact.y) <= distance(by_fmas.y, exact.y));
  CHECK(distance(got.dw, exact.dw) <= distance(by_fmas.dw, exact.dw));
}

TEST_CASE("Hopper, stem: pictures and results that are not aligned") {
  const Conv2d p = shape_of(1, 3, 6, 7, 32, {3, 1, 1});
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

TEST_CASE("Hopper, stem: NaN and infinity reach what reads them, and nothing else") {
  // Rows and columns of a segment that no filter has lie next to those that it has.
  for (const Conv2d& p : {shape_of(1, 3, 20, 22, 32, {7, 2, 3}), shape_of(1, 3, 9, 10, 32, {3, 1, 1}),
                          shape_of(1, 1, 9, 18, 32, {5, 2, 0})}) {
    CAPTURE(p.r);
    Data d = data_for(p);
    const auto pixel = [&](Index h, Index w) { return static_cast<std::size_t>((h * p.w + w) * p.c); };
    d.x[pixel(0, 0)] = std::numeric_limits<float>::signaling_NaN();
    d.x[pixel(p.h - 2, p.w / 2)] = NAN;
    d.x[pixel(p.h / 2, 1) + static_cast<std::size_t>(p.c) - 1] = INFINITY;
    Data of_dy = data_for(p);
    // Not at the border: 0 times NaN would be NaN.
    of_dy.dy[static_cast<std::size_t>((p.oh / 2 * p.ow + p.ow / 2) * p.k) + 1] = NAN;
    const Results expected = expected_of(p, d, 0, false, kBoth),
                  gradient = expected_of(p, of_dy, 0, false, {false, false, true});
    std::size_t finite = 0;
    for (const float value : expected.y) finite += std::isfinite(value);
    REQUIRE(finite > 0);
    REQUIRE(finite < expected.y.size());
    on_hopper([&](Precision) {
      const Results got = run(p, d, 0, false, kBoth);
      for (std::size_t i = 0; i < got.y.size(); ++i) {
        if (std::isfinite(got.y[i]) != std::isfinite(expected.y[i])) CAPTURE(i);
        REQUIRE(std::isfinite(got.y[i]) == std::isfinite(expected.y[i]));
        if (std::isfinite(got.y[i])) REQUIRE(std::abs(got.y[i] - expected.y[i]) <= 1e-4f);
      }
      for (std::size_t i = 0; i < got.dw.size(); ++i)
        REQUIRE(std::isfinite(got.dw[i]) == std::isfinite(expected.dw[i]));
      const Results of_gradient = run(p, of_dy, 0, false, {false, false, true});
      for (std::size_t i = 0; i < of_gradient.dw.size(); ++i)
        REQUIRE(std::isnan(of_gradient.dw[i]) == std::isnan(gradient.dw[i]));
    });
  }
}

TEST_CASE("Hopper, stem: a gradient that is there as an operand, and is read as no float") {
  const Conv2d p = shape_of(2, 3, 12, 13, 64, {3, 1, 1});
  const Data d = any_data_for(p);
  const WithHopper hopper;
  FloatKernels<float> gemm{};
  fill_gemm_cuda(gemm);
  const Array<float> x(d.x), dy(d.dy), unset(d.dy.size()), by_floats(d.w.size()), by_parts(d.w.size());
  const int count = cuda_conv2d().conv2d_parts(p.k);
  const Array<std::uint16_t> parts(d.dy.size() * static_cast<std::size_t>(count));
  gemm.make_parts(count, static_cast<Index>(d.dy.size()), parts.data(), dy.data());
  cuda_conv2d().conv2d_weight_grad(p, by_floats.data(), x.data(), dy.data(), nullptr, nullptr);
  cuda_conv2d().conv2d_weight_grad(p, by_parts.data(), x.data(), unset.data(), nullptr, parts.data());
  CHECK(by_floats.values() == by_parts.values());
}

TEST_CASE("Hopper, stem: which convolutions run there") {
  const auto variant = [](const Conv2d& of, ConvPass pass) {
    return std::string_view(cuda_conv2d().conv2d_variant(of, pass));
  };
  const Conv2d resnet = shape_of(256, 3, 224, 224, 64, {7, 2, 3});
  const auto elsewhere = [](Precision precision) {
    return precision == Precision::fp32   ? "implicit_gemm"
           : precision == Precision::tf32 ? "ampere_tf32"
                                          : "ampere_bf16";
  };
  in_every_precision(
      [&](Precision precision) { CHECK(variant(resnet, ConvPass::forward) == elsewhere(precision)); });
  on_hopper([&](Precision precision) {
    const std::string_view name = precision == Precision::tf32   ? "hopper_stem_tf32"
                                  : precision == Precision::bf16 ? "hopper_stem_bf16"
                                                                 : "hopper_stem_fp32";
    CHECK(variant(resnet, ConvPass::forward) == name);
    CHECK(variant(resnet, ConvPass::weight_grad) == name);
    CHECK(variant(resnet, ConvPass::input_grad) == elsewhere(precision));
    const auto forward = [](Index n, Index c, Index k, Window window) {
      return by_stem(shape_of(n, c, 40, 40, k, window), ConvPass::forward);
    };
    CHECK(forward(1, 1, 32, {1}));
    CHECK(forward(1, 4, 64, {31, 9, 200}));
    CHECK_FALSE(forward(1, 5, 64, {3}));
    CHECK_FALSE(forward(1, 4, 31, {3}));
    CHECK_FALSE(forward(1, 4, 64, {3, 1, 1, 2}));
    CHECK_FALSE(forward(1, 4, 64, {3, 1, 1, 1, 2}));
    CHECK_FALSE(forward(0, 3, 64, {3}));
    CHECK_FALSE(forward(1, 3, 64, {0}));
    // 625 pixels are laid of each picture, of up to 128 bytes; or one pixel of y has a tile of its own.
    CHECK(forward(429'496, 3, 64, {16, 25}));
    CHECK_FALSE(forward(429'497, 3, 64, {16, 25}));
    CHECK(by_stem(shape_of(16'000'000, 3, 3, 3, 64, {3, 3}), ConvPass::forward));
    CHECK_FALSE(by_stem(shape_of(17'000'000, 3, 3, 3, 64, {3, 3}), ConvPass::forward));
  });
}

TEST_CASE("Hopper, stem: what is laid of x is read, but for what makes strides multiples of each other") {
  CHECK(laid_size(shape_of(1, 3, 224, 224, 64, {7, 2, 3})) == std::array<Index, 2>{230, 230});
  CHECK(laid_size(shape_of(1, 3, 224, 223, 64, {3, 1, 1})) == std::array<Index, 2>{226, 225});
  const Conv2d p = shape_of(1, 3, 224, 224, 64, {7, 2, 3});
  CHECK(stem_tile_width(p, 128) == 16);
  CHECK(stem_shape<AsTf32>(p, 128).segments == 7);
  CHECK(stem_shape<AsBf16>(p, 128).segments == 4);
  CHECK(stem_shape<AsFp32>(p, 128).segments == 4);
  const Conv2d vgg = shape_of(1, 3, 224, 224, 64, {3, 1, 1});
  CHECK(stem_shape<AsTf32>(vgg, 128).segments == 3);
  CHECK(stem_shape<AsBf16>(vgg, 128).segments == 2);
  CHECK(stem_shape<AsFp32>(vgg, 128).segments == 1);
}
