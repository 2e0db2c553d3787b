// Operations on values: arithmetic to losses.
#include "support/operations.h"

#include "grapnel/engine/ops.h"
#include "support/device.h"

namespace grapnel::testing {
namespace {

#define CALL(call) [](const Tensors& in) { return call; }

std::vector<Operation> arithmetic() {
  const Tensor a = leaf({2, 3, 4}, 1), b = leaf({3, 1}, 2, 0.5, 2), s = leaf({}, 3, 0.5, 1.5),
               p = leaf({2, 3, 4}, 4, 0.5, 2);
  return {
      {"add", CALL(in[0] + in[1]), {a, b}},
      {"sub", CALL(in[0] - in[1]), {b, a}},
      {"mul", CALL(in[0] * in[1]), {a, b}},
      {"mul by itself", CALL(in[0] * in[0]), {a}},
      {"div", CALL(in[0] / in[1]), {a, b}},
      {"div by scalar tensor", CALL(in[0] / in[1]), {a, s}},
      {"number / tensor", CALL(2.0 / in[0]), {p}},
      {"affine", CALL(1.5 - in[0] * 3.0 + 2.0), {a}},
      {"pow tensors", CALL(pow(in[0], in[1])), {p, b}},
      {"maximum", CALL(maximum(in[0], in[1])), {distinct({2, 5}, 5), leaf({5}, 6)}},
      {"channels last with row-major",
       CALL(in[0] * in[1]),
       {nhwc(leaf({2, 3, 4, 5}, 7)), leaf({2, 3, 4, 5}, 8)}},
  };
}

std::vector<Operation> functions_of_one() {
  const Tensor any = distinct({3, 5}, 1), positive = leaf({3, 5}, 2, 0.3, 2);
  return {
      {"neg", CALL(-in[0]), {any}},
      {"exp", CALL(exp(in[0])), {any}},
      {"log", CALL(log(in[0])), {positive}},
      {"sqrt", CALL(sqrt(in[0])), {positive}},
      {"abs", CALL(abs(in[0])), {any}},
      {"sign", CALL(sign(in[0]) * in[0]), {any}},
      {"reciprocal", CALL(reciprocal(in[0])), {positive}},
      {"pow 3", CALL(pow(in[0], 3)), {any}},
      {"pow -0.5", CALL(pow(in[0], -0.5)), {positive}},
      {"clamp", CALL(clamp(in[0], -0.31, 0.42)), {any}},
      {"relu", CALL(relu(in[0])), {any}},
      {"relu squared", CALL(relu(in[0]) * relu(in[0])), {any}},
      {"leaky_relu", CALL(leaky_relu(in[0], 0.1)), {any}},
      {"sigmoid", CALL(sigmoid(in[0])), {any}},
      {"tanh", CALL(tanh(in[0])), {any}},
      {"clone", CALL(in[0].clone() * in[0]), {any}},
  };
}

std::vector<Operation> reductions() {
  const Tensor x3 = distinct({2, 3, 4}, 1), x4 = nhwc(distinct({2, 3, 2, 3}, 2));
  return {
      {"sum all", CALL(sum(in[0] * in[0])), {x3}},
      {"sum {0,2}", CALL(sum(in[0] * in[0], {0, 2})), {x3}},
      {"sum keepdim", CALL(in[0] * sum(in[0], {-2}, true)), {x3}},
      {"sum channels last", CALL(pow(sum(in[0], {0, 2, 3}), 2)), {x4}},
      {"mean", CALL(pow(mean(in[0], {1}), 2)), {x3}},
      {"amax", CALL(pow(amax(in[0], {0, 2}), 2)), {x3}},
      {"max along a dimension", CALL(pow(max(in[0], 1).first, 2)), {x3}},
      {"var", CALL(var(in[0], {1, 2})), {x3}},
      {"var biased", CALL(var(in[0], {}, 0)), {x3}},
      {"sum_to", CALL(pow(sum_to(in[0], {3, 1}), 2)), {x3}},
  };
}

std::vector<Operation> matrix_products() {
  return {
      {"2x2", CALL(matmul(in[0], in[1])), {leaf({3, 4}, 1), leaf({4, 2}, 2)}},
      {"transposed operands",
       CALL(matmul(transpose(in[0], 0, 1), transpose(in[1], 0, 1))),
       {leaf({4, 3}, 1), leaf({2, 4}, 2)}},
      {"vector vector", CALL(matmul(in[0], in[1])), {leaf({4}, 1), leaf({4}, 2)}},
      {"matrix vector", CALL(matmul(in[0], in[1])), {leaf({3, 4}, 1), leaf({4}, 2)}},
      {"broadcast batches", CALL(matmul(in[0], in[1])), {leaf({2, 1, 2, 3}, 1), leaf({2, 3, 2}, 2)}},
      {"linear", CALL(linear(in[0], in[1], in[2])), {leaf({3, 4}, 1), leaf({2, 4}, 2), leaf({2}, 3)}},
      {"linear over leading dimensions", CALL(linear(in[0], in[1])), {leaf({2, 2, 3}, 1), leaf({2, 3}, 2)}},
  };
}

std::vector<Operation> convolutions() {
  const auto conv = [](Conv2dOptions options) {
    return
        [options](const Tensors& t) { return conv2d(t[0], t[1], t.size() > 2 ? t[2] : Tensor(), options); };
  };
  const Tensor x = leaf({2, 2, 5, 4}, 1), w = leaf({3, 2, 3, 2}, 2), b = leaf({3}, 3);
  return {
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
  };
}

std::vector<Operation> pooling() {
  const Tensor x = distinct({1, 2, 5, 6}, 1);
  return {
      {"max", CALL(pow(max_pool2d(in[0], {.kernel = {2, 3}}), 2)), {x}},
      {"max, overlapping, padded",
       CALL(pow(max_pool2d(in[0], {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}), 2)),
       {x}},
      {"max, dilated, ceil",
       CALL(
           pow(max_pool2d(in[0], {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {2, 2}, .ceil_mode = true}),
               2)),
       {x}},
      {"avg", CALL(pow(avg_pool2d(in[0], {.kernel = {2, 2}, .stride = {1, 2}, .padding = {1, 0}}), 2)), {x}},
      {"avg without padding in the count",
       CALL(pow(
           avg_pool2d(in[0],
                      {.kernel = {3, 3}, .padding = {1, 1}, .ceil_mode = true, .count_include_pad = false}),
           2)),
       {x}},
      {"adaptive avg", CALL(pow(adaptive_avg_pool2d(in[0], 2, 4), 2)), {x}},
      {"adaptive avg, enlarging", CALL(pow(adaptive_avg_pool2d(in[0], 7, 7), 2)), {x}},
      {"bilinear up", CALL(pow(interpolate(in[0], 8, 9, Resample::bilinear), 2)), {x}},
      {"bilinear down, corners", CALL(pow(interpolate(in[0], 3, 4, Resample::bilinear, true), 2)), {x}},
      {"nearest", CALL(pow(interpolate(in[0], 7, 4, Resample::nearest), 2)), {x}},
  };
}

std::vector<Operation> batch_norms() {
  const Tensor x = leaf({2, 3, 2, 2}, 1), w = leaf({3}, 2, 0.5, 1.5), b = leaf({3}, 3);
  const Tensor mean = leaf({3}, 4).detach(), variance = leaf({3}, 5, 0.5, 2).detach();
  const auto norm = [](bool training) {
    return [=](const Tensors& t) {
      const bool affine = t.size() > 3;
      return pow(batch_norm(t[0], affine ? t[3] : Tensor(), affine ? t[4] : Tensor(), t[1].clone(),
                            t[2].clone(), training, 0.1, 1e-3),
                 2);
    };
  };
  return {{"train", norm(true), {x, mean, variance, w, b}},
          {"eval", norm(false), {x, mean, variance, w, b}},
          {"train without weight", norm(true), {nhwc(x), mean, variance}},
          {"eval without weight", norm(false), {nhwc(x), mean, variance}}};
}

std::vector<Operation> losses() {
  const Tensor x = leaf({3, 4}, 1);
  const Tensor labels = Tensor::from<std::int64_t>({2, 0, 3}, {3});
  const Tensor weight = Tensor::from<double>({0.5, 1, 2, 0.25}, {4}).to(finest_type());
  return {
      {"softmax last", CALL(pow(softmax(in[0], -1), 2)), {x}},
      {"softmax first", CALL(pow(softmax(in[0], 0), 2)), {x}},
      {"log_softmax", CALL(pow(log_softmax(in[0], 1), 2)), {x}},
      {"cross_entropy", CALL(cross_entropy(in[0], in[1])), {x, labels}},
      {"cross_entropy per row", CALL(cross_entropy(in[0], in[1], LossReduction::none)), {x, labels}},
      {"nll sum", CALL(nll_loss(in[0], in[1], LossReduction::sum)), {x, labels}},
      {"weighted nll", CALL(nll_loss(in[0], in[1], LossReduction::mean, in[2])), {x, labels, weight}},
      {"weighted and smoothed cross_entropy",
       CALL(cross_entropy(in[0], in[1], {.label_smoothing = 0.2, .weight = in[2]})),
       {x, labels, weight}},
      {"smoothed cross_entropy per row",
       CALL(cross_entropy(in[0], in[1], {.reduction = LossReduction::none, .label_smoothing = 0.2})),
       {x, labels}},
      {"bce with logits",
       CALL(binary_cross_entropy_with_logits(in[0], in[1], LossReduction::sum)),
       {x, leaf({3, 4}, 2, 0, 1)}},
      {"bce with logits at zero",
       CALL(binary_cross_entropy_with_logits(in[0], in[1])),
       {Tensor::zeros({3}, finest_type()).set_requires_grad(), leaf({3}, 2, 0, 1)}},
      {"mse", CALL(mse_loss(in[0], in[1])), {x, leaf({3, 4}, 2)}},
      {"dropout with a fixed seed",
       [](const Tensors& t) {
         Generator generator(5);
         return dropout(t[0], 0.4, true, generator);
       },
       {x}},
  };
}

/// Of which nothing is differentiated.
std::vector<Operation> choices() {
  const Tensor x = distinct({3, 4, 2}, 1).detach(), y = distinct({4, 2}, 2).detach();
  return {
      {"equal", CALL(equal(in[0], maximum(in[0], in[1]))), {x, y}},
      {"greater", CALL(greater(in[0], in[1])), {x, y}},
      {"argmax", CALL(argmax(in[0], 1)), {x}},
      {"index of max", CALL(max(in[0], 0).second), {x}},
  };
}

}  // namespace

std::vector<OperationGroup> operation_groups() {
  return {{"arithmetic, broadcast in every direction", arithmetic()},
          {"functions of one tensor", functions_of_one()},
          {"reductions", reductions()},
          {"matrix products", matrix_products()},
          {"convolution and its two gradient operations", convolutions()},
          {"pooling and resampling", pooling()},
          {"batch norm, training and evaluation", batch_norms()},
          {"softmax and losses", losses()},
          {"views, joins and indices", shapes()},
          {"in-place operations, on tensors, on views and on their bases", in_place()},
          {"choices", choices()}};
}

#undef CALL

}  // namespace grapnel::testing
