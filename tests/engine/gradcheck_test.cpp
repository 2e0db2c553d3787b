// Every differentiable operation against central differences, first and second derivatives.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"
#include "support/gradcheck.h"

using namespace grapnel;
using testing::gradcheck;
using testing::gradgradcheck;
using testing::leaf;

namespace {

struct Case {
  const char* name;
  testing::Function f;
  Tensors inputs;
};

/// Distinct values, at least 0.05 apart and away from zero: maxima and kinks stay where they are under a
/// small step.
Tensor distinct(const Shape& shape, std::uint64_t seed) {
  const auto count = static_cast<std::size_t>(numel(shape));
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = (static_cast<double>(i) - static_cast<double>(count) / 2 + 0.3) * 0.1;
  for (std::size_t i = count; i > 1; --i) std::swap(values[i - 1], values[Generator::bits_at(seed, i) % i]);
  return Tensor::from<double>(values, shape).set_requires_grad();
}

/// A leaf in channels-last memory order.
Tensor nhwc(const Tensor& x) {
  return x.detach().contiguous(MemoryFormat::channels_last).set_requires_grad();
}

void check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    CHECK_EQ(gradcheck(c.f, c.inputs), "");
    CHECK_EQ(gradgradcheck(c.f, c.inputs), "");
  }
}

#define GRAPNEL_UNARY(call) [](const Tensors& in) { return call; }

}  // namespace

TEST_CASE("[hook-48] arithmetic, broadcast in every direction") {
  const Tensor a = leaf({2, 3, 4}, 1), b = leaf({3, 1}, 2, 0.5, 2), s = leaf({}, 3, 0.5, 1.5),
               p = leaf({2, 3, 4}, 4, 0.5, 2);
  check({
      {"add", GRAPNEL_UNARY(in[0] + in[1]), {a, b}},
      {"sub", GRAPNEL_UNARY(in[0] - in[1]), {b, a}},
      {"mul", GRAPNEL_UNARY(in[0] * in[1]), {a, b}},
      {"mul by itself", GRAPNEL_UNARY(in[0] * in[0]), {a}},
      {"div", GRAPNEL_UNARY(in[0] / in[1]), {a, b}},
      {"div by scalar tensor", GRAPNEL_UNARY(in[0] / in[1]), {a, s}},
      {"number / tensor", GRAPNEL_UNARY(2.0 / in[0]), {p}},
      {"affine", GRAPNEL_UNARY(1.5 - in[0] * 3.0 + 2.0), {a}},
      {"pow tensors", GRAPNEL_UNARY(pow(in[0], in[1])), {p, b}},
      {"maximum", GRAPNEL_UNARY(maximum(in[0], in[1])), {distinct({2, 5}, 5), leaf({5}, 6)}},
      {"channels last with row-major",
       GRAPNEL_UNARY(in[0] * in[1]),
       {nhwc(leaf({2, 3, 4, 5}, 7)), leaf({2, 3, 4, 5}, 8)}},
  });
}

TEST_CASE("[hook-48] functions of one tensor") {
  const Tensor any = distinct({3, 5}, 1), positive = leaf({3, 5}, 2, 0.3, 2);
  check({
      {"neg", GRAPNEL_UNARY(-in[0]), {any}},
      {"exp", GRAPNEL_UNARY(exp(in[0])), {any}},
      {"log", GRAPNEL_UNARY(log(in[0])), {positive}},
      {"sqrt", GRAPNEL_UNARY(sqrt(in[0])), {positive}},
      {"abs", GRAPNEL_UNARY(abs(in[0])), {any}},
      {"sign", GRAPNEL_UNARY(sign(in[0]) * in[0]), {any}},
      {"reciprocal", GRAPNEL_UNARY(reciprocal(in[0])), {positive}},
      {"pow 3", GRAPNEL_UNARY(pow(in[0], 3)), {any}},
      {"pow -0.5", GRAPNEL_UNARY(pow(in[0], -0.5)), {positive}},
      {"clamp", GRAPNEL_UNARY(clamp(in[0], -0.31, 0.42)), {any}},
      {"relu", GRAPNEL_UNARY(relu(in[0])), {any}},
      {"relu squared", GRAPNEL_UNARY(relu(in[0]) * relu(in[0])), {any}},
      {"leaky_relu", GRAPNEL_UNARY(leaky_relu(in[0], 0.1)), {any}},
      {"sigmoid", GRAPNEL_UNARY(sigmoid(in[0])), {any}},
      {"tanh", GRAPNEL_UNARY(tanh(in[0])), {any}},
      {"to float64 and clone", GRAPNEL_UNARY(in[0].clone() * in[0]), {any}},
  });
}

TEST_CASE("[hook-48] reductions") {
  const Tensor x3 = distinct({2, 3, 4}, 1), x4 = nhwc(distinct({2, 3, 2, 3}, 2));
  check({
      {"sum all", GRAPNEL_UNARY(sum(in[0] * in[0])), {x3}},
      {"sum {0,2}", GRAPNEL_UNARY(sum(in[0] * in[0], {0, 2})), {x3}},
      {"sum keepdim", GRAPNEL_UNARY(in[0] * sum(in[0], {-2}, true)), {x3}},
      {"sum channels last", GRAPNEL_UNARY(pow(sum(in[0], {0, 2, 3}), 2)), {x4}},
      {"mean", GRAPNEL_UNARY(pow(mean(in[0], {1}), 2)), {x3}},
      {"amax", GRAPNEL_UNARY(pow(amax(in[0], {0, 2}), 2)), {x3}},
      {"max along a dimension", GRAPNEL_UNARY(pow(max(in[0], 1).first, 2)), {x3}},
      {"var", GRAPNEL_UNARY(var(in[0], {1, 2})), {x3}},
      {"var biased", GRAPNEL_UNARY(var(in[0], {}, 0)), {x3}},
      {"sum_to", GRAPNEL_UNARY(pow(sum_to(in[0], {3, 1}), 2)), {x3}},
  });
}

TEST_CASE("[hook-48] matrix products") {
  check({
      {"2x2", GRAPNEL_UNARY(matmul(in[0], in[1])), {leaf({3, 4}, 1), leaf({4, 2}, 2)}},
      {"transposed operands",
       GRAPNEL_UNARY(matmul(transpose(in[0], 0, 1), transpose(in[1], 0, 1))),
       {leaf({4, 3}, 1), leaf({2, 4}, 2)}},
      {"vector vector", GRAPNEL_UNARY(matmul(in[0], in[1])), {leaf({4}, 1), leaf({4}, 2)}},
      {"matrix vector", GRAPNEL_UNARY(matmul(in[0], in[1])), {leaf({3, 4}, 1), leaf({4}, 2)}},
      {"broadcast batches", GRAPNEL_UNARY(matmul(in[0], in[1])), {leaf({2, 1, 2, 3}, 1), leaf({2, 3, 2}, 2)}},
      {"linear",
       GRAPNEL_UNARY(linear(in[0], in[1], in[2])),
       {leaf({3, 4}, 1), leaf({2, 4}, 2), leaf({2}, 3)}},
      {"linear over leading dimensions",
       GRAPNEL_UNARY(linear(in[0], in[1])),
       {leaf({2, 2, 3}, 1), leaf({2, 3}, 2)}},
  });
}

TEST_CASE("[hook-48] convolution and its two gradient operations") {
  const auto conv = [](Conv2dOptions options) {
    return
        [options](const Tensors& t) { return conv2d(t[0], t[1], t.size() > 2 ? t[2] : Tensor(), options); };
  };
  const Tensor x = leaf({2, 2, 5, 4}, 1), w = leaf({3, 2, 3, 2}, 2), b = leaf({3}, 3);
  check({
      {"plain", conv({}), {x, w, b}},
      {"stride, padding", conv({{2, 1}, {1, 2}}), {x, w}},
      {"dilation", conv({{1, 2}, {2, 1}, {2, 3}}), {x, w}},
      {"groups",
       conv({{1, 1}, {1, 1}, {1, 1}, 2}),
       {leaf({1, 4, 3, 3}, 4), leaf({2, 2, 2, 2}, 5), leaf({2}, 6)}},
      {"depthwise, stride 2",
       conv({{2, 2}, {1, 1}, {1, 1}, 3}),
       {nhwc(leaf({1, 3, 4, 4}, 4)), leaf({3, 1, 3, 3}, 5)}},
      {"1x1", conv({{2, 2}}), {leaf({1, 3, 3, 3}, 7), leaf({2, 3, 1, 1}, 8)}},
      {"input gradient",
       [](const Tensors& t) {
         return conv2d_input_grad({1, 2, 5, 4}, t[0], t[1], {{2, 1}, {1, 0}});
       },
       {leaf({1, 3, 3, 3}, 9), leaf({3, 2, 3, 2}, 10)}},
      {"weight gradient",
       [](const Tensors& t) {
         return conv2d_weight_grad(t[0], {3, 2, 3, 2}, t[1], {{2, 1}, {1, 0}});
       },
       {leaf({1, 2, 5, 4}, 11), leaf({1, 3, 3, 3}, 12)}},
  });
}

TEST_CASE("[hook-48] pooling and resampling") {
  const Tensor x = distinct({1, 2, 5, 6}, 1);
  check({
      {"max", GRAPNEL_UNARY(pow(max_pool2d(in[0], {.kernel = {2, 3}}), 2)), {x}},
      {"max, overlapping, padded",
       GRAPNEL_UNARY(pow(max_pool2d(in[0], {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}), 2)),
       {x}},
      {"max, dilated, ceil",
       GRAPNEL_UNARY(
           pow(max_pool2d(in[0], {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {2, 2}, .ceil_mode = true}),
               2)),
       {x}},
      {"avg",
       GRAPNEL_UNARY(pow(avg_pool2d(in[0], {.kernel = {2, 2}, .stride = {1, 2}, .padding = {1, 0}}), 2)),
       {x}},
      {"avg without padding in the count",
       GRAPNEL_UNARY(pow(
           avg_pool2d(in[0],
                      {.kernel = {3, 3}, .padding = {1, 1}, .ceil_mode = true, .count_include_pad = false}),
           2)),
       {x}},
      {"adaptive avg", GRAPNEL_UNARY(pow(adaptive_avg_pool2d(in[0], 2, 4), 2)), {x}},
      {"adaptive avg, enlarging", GRAPNEL_UNARY(pow(adaptive_avg_pool2d(in[0], 7, 7), 2)), {x}},
      {"bilinear up", GRAPNEL_UNARY(pow(interpolate(in[0], 8, 9, Resample::bilinear), 2)), {x}},
      {"bilinear down, corners",
       GRAPNEL_UNARY(pow(interpolate(in[0], 3, 4, Resample::bilinear, true), 2)),
       {x}},
      {"nearest", GRAPNEL_UNARY(pow(interpolate(in[0], 7, 4, Resample::nearest), 2)), {x}},
  });
}

TEST_CASE("[hook-48] batch norm, training and evaluation") {
  const Tensor x = leaf({2, 3, 2, 2}, 1), w = leaf({3}, 2, 0.5, 1.5), b = leaf({3}, 3);
  const Tensor mean = leaf({3}, 4).detach(), var = leaf({3}, 5, 0.5, 2).detach();
  const auto norm = [=](bool training) {
    return [=](const Tensors& t) {
      return pow(batch_norm(t[0], t.size() > 1 ? t[1] : Tensor(), t.size() > 2 ? t[2] : Tensor(),
                            mean.clone(), var.clone(), training, 0.1, 1e-3),
                 2);
    };
  };
  check({{"train", norm(true), {x, w, b}},
         {"eval", norm(false), {x, w, b}},
         {"train without weight", norm(true), {nhwc(x)}},
         {"eval without weight", norm(false), {nhwc(x)}}});
}

TEST_CASE("[hook-48] softmax and losses") {
  const Tensor x = leaf({3, 4}, 1);
  const Tensor labels = Tensor::from<std::int64_t>({2, 0, 3}, {3});
  const Tensor weight = Tensor::from<double>({0.5, 1, 2, 0.25}, {4});
  check({
      {"softmax last", GRAPNEL_UNARY(pow(softmax(in[0], -1), 2)), {x}},
      {"softmax first", GRAPNEL_UNARY(pow(softmax(in[0], 0), 2)), {x}},
      {"log_softmax", GRAPNEL_UNARY(pow(log_softmax(in[0], 1), 2)), {x}},
      {"cross_entropy", [labels](const Tensors& t) { return cross_entropy(t[0], labels); }, {x}},
      {"cross_entropy per row",
       [labels](const Tensors& t) { return cross_entropy(t[0], labels, LossReduction::none); },
       {x}},
      {"nll sum", [labels](const Tensors& t) { return nll_loss(t[0], labels, LossReduction::sum); }, {x}},
      {"weighted nll",
       [=](const Tensors& t) { return nll_loss(t[0], labels, LossReduction::mean, weight); },
       {x}},
      {"weighted and smoothed cross_entropy",
       [=](const Tensors& t) {
         return cross_entropy(t[0], labels, {.label_smoothing = 0.2, .weight = weight});
       },
       {x}},
      {"smoothed cross_entropy per row",
       [=](const Tensors& t) {
         return cross_entropy(t[0], labels, {.reduction = LossReduction::none, .label_smoothing = 0.2});
       },
       {x}},
      {"bce with logits",
       GRAPNEL_UNARY(binary_cross_entropy_with_logits(in[0], in[1], LossReduction::sum)),
       {x, leaf({3, 4}, 2, 0, 1)}},
      {"bce with logits at zero",
       GRAPNEL_UNARY(binary_cross_entropy_with_logits(in[0], in[1])),
       {Tensor::zeros({3}, DType::float64).set_requires_grad(), leaf({3}, 2, 0, 1)}},
      {"mse", GRAPNEL_UNARY(mse_loss(in[0], in[1])), {x, leaf({3, 4}, 2)}},
      {"dropout with a fixed seed",
       [](const Tensors& t) {
         Generator generator(5);
         return dropout(t[0], 0.4, true, generator);
       },
       {x}},
  });
}

TEST_CASE("[hook-48] views, joins and indices") {
  const Tensor x = leaf({2, 3, 4}, 1), y = leaf({2, 3, 4}, 2), plane = leaf({2, 1, 3, 3}, 3);
  const Tensor rows = Tensor::from<std::int64_t>({2, 0, 2}, {3});
  const Tensor picks = Tensor::from<std::int64_t>({1, 0, 2, 2, 1, 1, 0, 0}, {2, 1, 4});
  check({
      {"reshape", GRAPNEL_UNARY(pow(reshape(in[0], {6, -1}), 2)), {x}},
      {"reshape of a transpose", GRAPNEL_UNARY(pow(reshape(transpose(in[0], 0, 2), {4, 6}), 2)), {x}},
      {"view", GRAPNEL_UNARY(pow(view(in[0], {3, 8}), 2)), {x}},
      {"flatten", GRAPNEL_UNARY(pow(flatten(in[0], 1), 2)), {x}},
      {"permute", GRAPNEL_UNARY(pow(permute(in[0], {2, 0, 1}), 2)), {x}},
      {"expand", GRAPNEL_UNARY(pow(expand(in[0], {3, 2, 4, 3, 3}), 2)), {leaf({4, 1, 3}, 4)}},
      {"narrow", GRAPNEL_UNARY(pow(narrow(in[0], 1, 1, 2), 2)), {x}},
      {"select", GRAPNEL_UNARY(pow(select(in[0], -1, -2), 2)), {x}},
      {"unbind, one unused", GRAPNEL_UNARY(unbind(in[0], 1)[0] * pow(unbind(in[0], 1)[2], 2)), {x}},
      {"split", GRAPNEL_UNARY(pow(split(in[0], 2, -1)[0], 2) * split(in[0], 2, -1)[1]), {x}},
      {"chunk", GRAPNEL_UNARY(pow(chunk(in[0], 2, 1)[1], 3)), {x}},
      {"unsqueeze, squeeze", GRAPNEL_UNARY(squeeze(pow(unsqueeze(in[0], 1), 2), 1)), {x}},
      {"as_strided, overlapping", GRAPNEL_UNARY(pow(as_strided(in[0], {3, 4}, {2, 1}, 3), 2)), {x}},
      {"cat", GRAPNEL_UNARY(pow(cat({in[0], in[1], in[0]}, 1), 2)), {x, y}},
      {"stack", GRAPNEL_UNARY(pow(stack({in[0], in[1]}, -1), 2)), {x, y}},
      {"pad", GRAPNEL_UNARY(pow(pad(in[0], 1, 2, 0, 1, 0.5), 2)), {plane}},
      {"pad, cropping", GRAPNEL_UNARY(pow(pad(in[0], -1, 1, 2, -1), 2)), {plane}},
      {"index_select", [rows](const Tensors& t) { return pow(index_select(t[0], 1, rows), 2); }, {x}},
      {"index_add", [rows](const Tensors& t) { return pow(index_add(4, 1, rows, t[0]), 2); }, {x}},
      {"gather", [picks](const Tensors& t) { return pow(gather(t[0], 1, picks), 2); }, {x}},
      {"scatter_add",
       [picks](const Tensors& t) { return pow(scatter_add(3, 1, picks, t[0]), 2); },
       {leaf({2, 1, 4}, 5)}},
  });
}

TEST_CASE("[hook-48] in-place operations, on tensors, on views and on their bases") {
  const Tensor x = distinct({2, 3}, 1), y = distinct({2, 3}, 2), row = leaf({3}, 3);
  check({
      {"relu_",
       [](const Tensors& t) {
         Tensor z = t[0] * 2.0;
         relu_(z);
         return z * t[0];
       },
       {x}},
      {"add_",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         add_(z, t[1]);
         return z * z;
       },
       {x, row}},
      {"mul_",
       [](const Tensors& t) {
         Tensor z = t[0] + 1.0;
         mul_(z, t[1]);
         return z * z;
       },
       {x, y}},
      {"affine_",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         affine_(z, 3, 1);
         return z * z;
       },
       {x}},
      {"copy_",
       [](const Tensors& t) {
         Tensor z = t[0] * 2.0;
         z.copy_(t[1] * t[1]);
         return z + t[0];
       },
       {x, row}},
      {"fill_",
       [](const Tensors& t) {
         Tensor z = t[0] * 2.0;
         select(z, 0, 0).fill_(3);
         return z * z;
       },
       {x}},
      {"view changed, base used",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         mul_(select(z, 0, 1), t[1]);
         return z * z;
       },
       {x, row}},
      {"view of a view",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         mul_(narrow(transpose(z, 0, 1), 0, 1, 2), Tensor::full({2, 2}, 2.5, DType::float64));
         return z * t[0];
       },
       {x}},
      {"base changed, earlier view used",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         const Tensor earlier = select(z, 0, 1);
         mul_(z, t[1]);
         return earlier * earlier;
       },
       {x, y}},
      {"sibling view used",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         const Tensor sibling = flatten(z);
         affine_(select(z, 1, 0), 0.5, 0);
         affine_(select(z, 1, 2), -2, 1);
         return sibling * sibling;
       },
       {x}},
  });
}

TEST_CASE("[hook-48] the checker rejects a wrong gradient") {
  const auto wrong = [](const Tensors& t) {
    return record("wrong", exp(t[0].detach()), {t[0]}, {t[0]},
                  [](const Backward& ctx) -> Tensors { return {ctx.grad() * exp(ctx.saved(0)) * 1.0001}; });
  };
  CHECK_NE(gradcheck(wrong, {leaf({3}, 1)}), "");
  const auto wrong_second = [](const Tensors& t) {
    return record("wrong", t[0].detach() * t[0].detach(), {t[0]}, {t[0]}, [](const Backward& ctx) -> Tensors {
      return {ctx.grad() * (ctx.saved(0) * 2.0).detach()};
    });
  };
  CHECK_EQ(gradcheck(wrong_second, {leaf({3}, 1)}), "");
  CHECK_NE(gradgradcheck(wrong_second, {leaf({3}, 1)}), "");
}
