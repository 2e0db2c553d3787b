// Every step of the teaching ladders against the definition in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "grapnel/kernels/conv2d/steps/steps.h"
#include "grapnel/kernels/gemm/steps/steps.h"
#include "kernel_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;

namespace {

constexpr float kUnwritten = std::numeric_limits<float>::quiet_NaN();

/// Checks what `step` writes with one thread, and that more of them write the same.
template <class Step>
void check_step(const std::string& name, const Step& step, const std::vector<double>& want,
                const std::vector<double>& size, std::int64_t terms) {
  CAPTURE(name);
  std::vector<float> one(want.size(), kUnwritten);
  set_num_threads(1);
  step(one.data());
  CHECK(worst_error(one, want, size, terms) <= 1);
  for (const int threads : {2, 3}) {
    std::vector<float> more(want.size(), kUnwritten);
    set_num_threads(threads);
    step(more.data());
    CHECK_MESSAGE(more == one, threads, " threads");
  }
  set_num_threads(0);
}

void check_products(const gemm_steps::Sizes& sizes) {
  const std::int64_t m = sizes.m, n = sizes.n, k = sizes.k;
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  const std::vector<float> a = random_values(m * k, 1), b = random_values(k * n, 2);
  std::vector<double> want(static_cast<std::size_t>(m * n)), size = want;
  const Gemm shape{m, n, k, k, 1, n, 1, n};
  const auto gemm = reference_table().f64.gemm;
  gemm(shape, want.data(), widened(a).data(), widened(b).data(), nullptr);
  gemm(shape, size.data(), magnitudes(a).data(), magnitudes(b).data(), nullptr);
  for (const gemm_steps::Step& step : gemm_steps::kSteps) {
    const auto multiply = [&](float* c) { step.multiply(sizes, c, a.data(), b.data()); };
    check_step(step.name, multiply, want, size, k);
  }
}

Conv2d layer(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t k, std::int64_t r,
             std::int64_t s, std::int64_t pad_h, std::int64_t pad_w) {
  return {n, c, h, w, k, r, s, h + 2 * pad_h - r + 1, w + 2 * pad_w - s + 1, 1, 1, pad_h, pad_w, 1, 1, 1};
}

std::vector<double> reference(const Conv2d& p, const std::vector<double>& x, const std::vector<double>& w) {
  const FloatKernels<double>& kernels = reference_table().f64;
  const std::int64_t strides[] = {p.c * p.r * p.s, p.r * p.s, p.s, 1};
  std::vector<double> packed(kernels.conv2d_packed_size(p, ConvPass::forward));
  kernels.conv2d_pack(p, ConvPass::forward, packed.data(), w.data(), strides);
  std::vector<double> y(static_cast<std::size_t>(p.n * p.oh * p.ow * p.k));
  kernels.conv2d_forward(p, y.data(), x.data(), packed.data(), {});
  return y;
}

void check_convolutions(const Conv2d& p) {
  CAPTURE(p.c);
  CAPTURE(p.h);
  CAPTURE(p.w);
  CAPTURE(p.k);
  const std::vector<float> x = random_values(p.n * p.h * p.w * p.c, 1),
                           w = random_values(p.k * p.c * p.r * p.s, 2);
  const std::vector<double> want = reference(p, widened(x), widened(w)),
                            size = reference(p, magnitudes(x), magnitudes(w));
  // An output of Winograd's is made of sums and differences over its whole tile: its rounding is that of the
  // largest outputs, times what the maps' factors add.
  const std::vector<double> tile_size(size.size(), 4 * *std::max_element(size.begin(), size.end()));
  for (const conv2d_steps::Step& step : conv2d_steps::kSteps) {
    const bool tiles = step.convolve == conv2d_steps::winograd;
    if (tiles && (p.r != 3 || p.s != 3)) continue;
    AlignedBuffer packed(step.weights->size(p));
    step.weights->pack(p, packed.data(), w.data());
    const auto convolve = [&](float* y) { step.convolve(p, y, x.data(), packed.data()); };
    check_step(step.name, convolve, want, tiles ? tile_size : size, p.c * p.r * p.s);
  }
}

}  // namespace

TEST_CASE("gemm/steps: one element, one row, one column, and one term") {
  check_products({1, 1, 1});
  check_products({1, 40, 9});
  check_products({19, 1, 9});
  check_products({5, 33, 1});
}

TEST_CASE("gemm/steps: tails of every block, panel and tile") {
  check_products({4, 8, 32});
  check_products({7, 15, 33});
  check_products({29, 67, 130});
  check_products({31, 259, 17});
  check_products({13, 37, 521});
}

TEST_CASE("conv2d/steps: one pixel, and pictures smaller than the kernel") {
  check_convolutions(layer(1, 1, 1, 1, 1, 3, 3, 1, 1));
  check_convolutions(layer(1, 5, 1, 2, 3, 3, 3, 1, 1));
  check_convolutions(layer(2, 3, 2, 1, 33, 3, 3, 2, 1));
}

TEST_CASE("conv2d/steps: odd sizes, several pictures, more channels than a panel") {
  check_convolutions(layer(1, 17, 5, 7, 31, 3, 3, 0, 0));
  check_convolutions(layer(2, 16, 14, 15, 65, 3, 3, 1, 1));
  check_convolutions(layer(3, 33, 9, 31, 40, 3, 3, 1, 2));
}

TEST_CASE("conv2d/steps: kernels of other sizes, but for Winograd's tiles") {
  check_convolutions(layer(1, 7, 6, 9, 5, 1, 1, 0, 0));
  check_convolutions(layer(2, 3, 11, 17, 34, 7, 5, 3, 2));
}
