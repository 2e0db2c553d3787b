// Every convolution variant that runs here against the double-precision reference.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "grapnel/kernels/kernels.h"
#include "kernel_testing.h"

using namespace grapnel::kernels;
using grapnel::testing::magnitudes;
using grapnel::testing::random_values;
using grapnel::testing::widened;
using Index = std::int64_t;

namespace {

struct Layer {
  Index n, c, h, w, k, r, s, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
};

Conv2d shape_of(const Layer& l) {
  Conv2d p{};
  p.n = l.n, p.c = l.c, p.h = l.h, p.w = l.w, p.k = l.k, p.r = l.r, p.s = l.s;
  p.stride_h = l.stride_h, p.stride_w = l.stride_w, p.pad_h = l.pad_h, p.pad_w = l.pad_w;
  p.dil_h = l.dil_h, p.dil_w = l.dil_w, p.groups = l.groups;
  p.oh = (l.h + 2 * l.pad_h - l.dil_h * (l.r - 1) - 1) / l.stride_h + 1;
  p.ow = (l.w + 2 * l.pad_w - l.dil_w * (l.s - 1) - 1) / l.stride_w + 1;
  return p;
}

std::string describe(const Layer& l) {
  std::string text = "n,c,h,w,k,r,s,stride,pad,dil,groups:";
  for (const Index v : {l.n, l.c, l.h, l.w, l.k, l.r, l.s, l.stride_h, l.stride_w, l.pad_h, l.pad_w, l.dil_h,
                        l.dil_w, l.groups}) {
    text += " " + std::to_string(v);
  }
  return text;
}

const std::vector<Layer>& layers() {
  static const std::vector<Layer> list = {
      // n, c, h, w, k, r, s, stride, pad, dil, groups
      {1, 3, 23, 29, 64, 7, 7, 2, 2, 3, 3, 1, 1, 1},   // the stem of a ResNet
      {2, 64, 14, 14, 65, 3, 3, 1, 1, 1, 1, 1, 1, 1},  // a tile per row
      {3, 33, 7, 7, 31, 3, 3, 1, 1, 1, 1, 1, 1, 1},    // rows of seven, in pairs, an odd number of them
      {1, 17, 9, 7, 40, 3, 1, 1, 1, 0, 0, 1, 1, 1},    // rows of seven without padding
      {2, 16, 8, 7, 32, 1, 1, 1, 1, 0, 0, 1, 1, 1},    // pointwise
      {2, 31, 15, 13, 17, 1, 1, 2, 2, 0, 0, 1, 1, 1},  // pointwise with stride: input pixels nobody reads
      {1, 5, 17, 11, 33, 3, 3, 2, 2, 1, 1, 1, 1, 1},
      {1, 4, 16, 20, 6, 3, 5, 3, 2, 2, 0, 1, 1, 1},
      {2, 3, 12, 31, 5, 2, 2, 3, 3, 0, 1, 1, 1, 1},  // stride larger than the kernel
      {1, 7, 13, 14, 9, 3, 3, 1, 1, 2, 2, 2, 2, 1},  // dilation
      {1, 6, 15, 17, 5, 3, 3, 2, 2, 2, 3, 2, 1, 1},  // dilation and stride share a divisor in one axis
      {1, 6, 15, 17, 5, 3, 4, 3, 2, 1, 2, 2, 2, 1},
      {2, 6, 9, 10, 12, 3, 3, 1, 1, 1, 1, 1, 1, 3},     // groups
      {1, 66, 10, 9, 70, 3, 3, 2, 1, 1, 1, 1, 1, 2},    // groups wider than a panel
      {1, 17, 11, 12, 17, 3, 3, 1, 1, 1, 1, 1, 1, 17},  // depthwise
      {1, 5, 11, 12, 10, 3, 3, 2, 2, 1, 1, 2, 2, 5},    // depthwise with a multiplier, stride and dilation
      {1, 3, 2, 3, 5, 5, 5, 1, 1, 2, 2, 1, 1, 1},       // kernel larger than the input
      {1, 8, 5, 6, 4, 5, 6, 1, 1, 0, 0, 1, 1, 1},       // one output pixel
      {2, 4, 1, 19, 3, 1, 3, 1, 2, 0, 1, 1, 1, 1},      // one row
      {2, 4, 19, 1, 3, 3, 1, 2, 1, 1, 0, 1, 1, 1},      // one column
      {1, 1, 6, 6, 1, 3, 3, 1, 1, 3, 3, 1, 1, 1},       // padding beyond what the kernel needs
      {0, 3, 8, 8, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1},       // no picture
      {1, 40, 60, 50, 36, 3, 3, 1, 1, 1, 1, 1, 1, 1},   // several bands of rows
      {5, 48, 7, 9, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1},     // several pictures in one band
  };
  return list;
}

/// One layer with its data and the double reference's answers, and for every answer the sum of the magnitudes
/// |a||b| behind it: rounding cannot exceed a small multiple of eps times that.
struct Case {
  Conv2d p;
  std::vector<float> x, w, dy, bias;
  std::vector<Index> w_strides;
  std::vector<double> y, dx, dw, y_size, dx_size, dw_size;
};

std::vector<double> packed(const FloatKernels<double>& k, const Conv2d& p, ConvPass pass,
                           const std::vector<double>& w, const std::vector<Index>& strides) {
  std::vector<double> out(k.conv2d_packed_size(p, pass) + 1);
  k.conv2d_pack(p, pass, out.data(), w.data(), strides.data());
  return out;
}

void reference_answers(const Conv2d& p, const std::vector<double>& x, const std::vector<double>& w,
                       const std::vector<Index>& strides, const std::vector<double>& dy,
                       const std::vector<double>& bias, std::vector<double>* y, std::vector<double>* dx,
                       std::vector<double>* dw) {
  const FloatKernels<double>& k = grapnel::testing::reference_table().f64;
  y->resize(static_cast<std::size_t>(p.n * p.oh * p.ow * p.k));
  dx->resize(x.size());
  dw->resize(w.size());
  k.conv2d_forward(p, y->data(), x.data(), packed(k, p, ConvPass::forward, w, strides).data(),
                   {.shift = bias.data()});
  k.conv2d_input_grad(p, dx->data(), dy.data(), packed(k, p, ConvPass::input_grad, w, strides).data(), {});
  k.conv2d_weight_grad(p, dw->data(), x.data(), dy.data(), nullptr, nullptr);
}

Case make_case(const Layer& layer, bool channels_last_weights) {
  Case c;
  c.p = shape_of(layer);
  const Conv2d& p = c.p;
  const Index c_group = p.c / p.groups;
  c.x = random_values(p.n * p.c * p.h * p.w, 1);
  c.w = random_values(p.k * c_group * p.r * p.s, 2);
  c.dy = random_values(p.n * p.k * p.oh * p.ow, 3);
  c.bias = random_values(p.k, 4);
  c.w_strides = channels_last_weights ? std::vector<Index>{p.r * p.s * c_group, 1, p.s * c_group, c_group}
                                      : std::vector<Index>{c_group * p.r * p.s, p.r * p.s, p.s, 1};
  reference_answers(p, widened(c.x), widened(c.w), c.w_strides, widened(c.dy), widened(c.bias), &c.y, &c.dx,
                    &c.dw);
  reference_answers(p, magnitudes(c.x), magnitudes(c.w), c.w_strides, magnitudes(c.dy), magnitudes(c.bias),
                    &c.y_size, &c.dx_size, &c.dw_size);
  return c;
}

struct Answers {
  std::vector<float> y, y_without_bias, dx, dw;
  bool operator==(const Answers&) const = default;
};

Answers run(const FloatKernels<float>& k, const Case& c) {
  constexpr float kUnwritten = std::numeric_limits<float>::quiet_NaN();
  Answers a;
  grapnel::testing::AlignedBuffer forward(k.conv2d_packed_size(c.p, ConvPass::forward));
  grapnel::testing::AlignedBuffer backward(k.conv2d_packed_size(c.p, ConvPass::input_grad));
  k.conv2d_pack(c.p, ConvPass::forward, forward.data(), c.w.data(), c.w_strides.data());
  k.conv2d_pack(c.p, ConvPass::input_grad, backward.data(), c.w.data(), c.w_strides.data());
  a.y.assign(c.y.size(), kUnwritten);
  a.y_without_bias = a.y;
  a.dx.assign(c.dx.size(), kUnwritten);
  a.dw.assign(c.dw.size(), kUnwritten);
  k.conv2d_forward(c.p, a.y.data(), c.x.data(), forward.data(), {.shift = c.bias.data()});
  k.conv2d_forward(c.p, a.y_without_bias.data(), c.x.data(), forward.data(), {});
  k.conv2d_input_grad(c.p, a.dx.data(), c.dy.data(), backward.data(), {});
  k.conv2d_weight_grad(c.p, a.dw.data(), c.x.data(), c.dy.data(), nullptr, nullptr);
  return a;
}

}  // namespace

TEST_CASE("conv2d: the double reference is the definition, on a case small enough to do by hand") {
  // x = 1 2 3; w = 1 10 with padding 1: y = 0*1+1*10, 1+20, 2+30, 3+0.
  Conv2d p = shape_of({1, 1, 1, 3, 1, 1, 2, 1, 1, 0, 1, 1, 1, 1});
  const std::vector<double> x{1, 2, 3}, w{1, 10}, bias{100}, dy{1, 2, 3, 4};
  std::vector<double> y, dx, dw;
  reference_answers(p, x, w, {2, 2, 2, 1}, dy, bias, &y, &dx, &dw);
  CHECK(y == std::vector<double>{110, 121, 132, 103});
  CHECK(dx == std::vector<double>{1 * 10 + 2 * 1, 2 * 10 + 3 * 1, 3 * 10 + 4 * 1});
  CHECK(dw == std::vector<double>{1 * 2 + 2 * 3 + 3 * 4, 1 * 1 + 2 * 2 + 3 * 3});
}

TEST_CASE(
    "conv2d: every variant agrees with the double reference, with the same bits on 1, 2 and 3 threads") {
  for (const Layer& layer : layers()) {
    for (const bool channels_last_weights : {false, true}) {
      const Case c = make_case(layer, channels_last_weights);
      CAPTURE(describe(layer));
      for (const Table* table : grapnel::testing::tables()) {
        CAPTURE(table->name);
        set_num_threads(1);
        const Answers one = run(table->f32, c);
        std::vector<double> y_without_bias = c.y;
        for (std::size_t i = 0; i < c.y.size(); ++i) y_without_bias[i] -= c.bias[i % c.bias.size()];
        const Index terms = c.p.c / c.p.groups * c.p.r * c.p.s,
                    back_terms = c.p.k / c.p.groups * c.p.r * c.p.s;
        CHECK(grapnel::testing::worst_error(one.y, c.y, c.y_size, terms) <= 1);
        CHECK(grapnel::testing::worst_error(one.y_without_bias, y_without_bias, c.y_size, terms) <= 1);
        CHECK(grapnel::testing::worst_error(one.dx, c.dx, c.dx_size, back_terms) <= 1);
        CHECK(grapnel::testing::worst_error(one.dw, c.dw, c.dw_size, c.p.n * c.p.oh * c.p.ow) <= 1);
        for (const int threads : {2, 3}) {
          set_num_threads(threads);
          CHECK_MESSAGE(run(table->f32, c) == one, threads, " threads");
        }
        set_num_threads(0);
      }
    }
  }
}
