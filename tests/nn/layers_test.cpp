// Each layer is its operation with its own parameters; settings read like PyTorch's; starts are distributed
// like PyTorch's.
#include "grapnel/nn/layers.h"

#include <cmath>

#include "grapnel/engine/random.h"
#include "grapnel/nn/init.h"
#include "nn/small_modules.h"

using namespace grapnel;
using namespace grapnel::testing;

namespace {

Tensor random(const Shape& shape) {
  Generator generator(7);
  return Tensor::randn(shape, generator);
}

/// A module whose parameters are irregular, called on x, gives exactly `expected(x)`.
void check_call(nn::Module& module, const Tensor& x, const Tensor& expected) {
  const Tensor y = module(x);
  CHECK(y.shape() == expected.shape());
  CHECK(y.to_vector<float>() == expected.to_vector<float>());
}

}  // namespace

TEST_CASE("layers: each computes its operation") {
  const Tensor x = random({2, 4, 9, 7});
  const Conv2dOptions options{.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}, .groups = 2};
  nn::Conv2d conv(4, 6, {3, 2}, options);
  CHECK(conv.weight.shape() == Shape{6, 2, 3, 2});
  check_call(conv, x, conv2d(x, conv.weight, conv.bias, options));
  nn::Linear linear_layer(7, 5);
  check_call(linear_layer, x, linear(x, linear_layer.weight, linear_layer.bias));
  nn::Linear without_bias(7, 5, false);
  check_call(without_bias, x, linear(x, without_bias.weight));
  const Pool2dOptions pool{.kernel = {3, 2}, .stride = {2, 1}, .padding = {1, 0}};
  nn::MaxPool2d max_pool(pool);
  check_call(max_pool, x, max_pool2d(x, pool));
  nn::AdaptiveAvgPool2d average(3, 2);
  check_call(average, x, adaptive_avg_pool2d(x, 3, 2));
  nn::Flatten flat;
  check_call(flat, x, flatten(x, 1));
  nn::ReLU relu_layer;
  check_call(relu_layer, x, relu(x));
  nn::ReLU overwriting(true);
  const Tensor changed = x.clone();
  CHECK(overwriting(changed).is_same(changed));
  CHECK(changed.to_vector<float>() == relu(x).to_vector<float>());
}

TEST_CASE("layers: batch norm moves its statistics in training and uses them in eval") {
  nn::BatchNorm2d norm(4, 1e-3, 0.2);
  const Tensor x = random({2, 4, 5, 3});
  const Tensor mean = Tensor::zeros({4}), var = Tensor::ones({4});
  check_call(norm, x, batch_norm(x, norm.weight, norm.bias, mean, var, true, 0.2, 1e-3));
  CHECK(norm.running_mean.to_vector<float>() == mean.to_vector<float>());
  CHECK(norm.running_var.to_vector<float>() == var.to_vector<float>());
  CHECK(norm.num_batches_tracked.item() == 1);
  norm.eval();
  check_call(norm, x, batch_norm(x, norm.weight, norm.bias, mean, var, false, 0.2, 1e-3));
  CHECK(norm.running_mean.to_vector<float>() == mean.to_vector<float>());
  CHECK(norm.num_batches_tracked.item() == 1);
}

TEST_CASE("layers: dropout acts in training only") {
  nn::Dropout drop(0.5);
  const Tensor x = Tensor::ones({1000});
  const double kept = sum(greater(drop(x), Tensor::zeros({1000}))).item();
  CHECK(kept > 400);  // 500 +- 16: six standard deviations
  CHECK(kept < 600);
  drop.eval();
  CHECK(drop(x).is_same(x));
}

TEST_CASE("layers: containers") {
  const auto scale = [](double factor) { return std::make_shared<Scale>("s", factor); };
  nn::Sequential sequence({scale(2), scale(5)});
  sequence.push_back(scale(7));
  CHECK(sequence(leaf(1)).item() == 70);
  CHECK(nn::Sequential()(leaf(4)).item() == 4);
  nn::ModuleList list({scale(2), scale(5)});
  CHECK(list.size() == 2);
  CHECK(list[1](leaf(1)).item() == 5);
  CHECK_THROWS_WITH_AS(list[2], "no module \"2\": the root (ModuleList) has 0, 1", NameError);
  CHECK_THROWS_AS(list(leaf(1)), Error);
}

TEST_CASE("layers: settings read like PyTorch's") {
  CHECK(nn::Conv2d(3, 8, {7, 7}, {.stride = {2, 2}, .padding = {3, 3}}, false).settings() ==
        "3, 8, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False");
  CHECK(nn::Conv2d(4, 8, {3, 1}, {.dilation = {2, 1}, .groups = 2}).settings() ==
        "4, 8, kernel_size=(3, 1), stride=(1, 1), dilation=(2, 1), groups=2");
  CHECK(nn::BatchNorm2d(8).settings() == "8, eps=1e-05, momentum=0.1");
  CHECK(nn::Linear(3, 2).settings() == "in_features=3, out_features=2, bias=True");
  CHECK(nn::MaxPool2d({.kernel = {3, 3}}).settings() == "kernel_size=(3, 3), stride=(3, 3)");
  CHECK(nn::ReLU(true).settings() == "inplace=True");
  CHECK(nn::Dropout().settings() == "p=0.5");
  CHECK(nn::AdaptiveAvgPool2d(7, 7).settings() == "output_size=(7, 7)");
}

TEST_CASE("layers: channels that do not divide into groups are refused") {
  CHECK_THROWS_WITH_AS(nn::Conv2d(4, 6, {1, 1}, {.groups = 4}),
                       "Conv2d: 4 input and 6 output channels do not divide into 4 groups", ShapeError);
}

TEST_CASE("init: PyTorch's default is uniform within 1/sqrt(fan_in)") {
  default_generator() = Generator(11);
  nn::Conv2d conv(16, 64, {3, 3}, {.groups = 2});
  const double bound = 1 / std::sqrt(8 * 9.0);
  const auto weights = conv.weight.to_vector<double>();
  double largest = 0, squares = 0;
  for (double w : weights) largest = std::max(largest, std::abs(w)), squares += w * w;
  CHECK(largest <= bound);
  CHECK(largest > 0.99 * bound);
  // The mean square of n uniform numbers is b^2/3 (1 +- 0.9/sqrt(n)): six standard deviations.
  const double n = static_cast<double>(weights.size());
  CHECK(std::abs(squares / n / (bound * bound / 3) - 1) < 6 * 0.9 / std::sqrt(n));
  for (double b : conv.bias.to_vector<double>()) CHECK(std::abs(b) <= bound);
}

TEST_CASE("init: Kaiming normal over fan_out") {
  default_generator() = Generator(12);
  const Tensor weight = Tensor::empty({64, 16, 3, 3}).set_requires_grad();
  nn::fill_kaiming_normal(weight);
  CHECK(weight.is_leaf());
  double total = 0, squares = 0;
  for (double w : weight.to_vector<double>()) total += w, squares += w * w;
  const double n = 64 * 16 * 9, variance = 2.0 / (64 * 9);
  CHECK(std::abs(total / n) < 6 * std::sqrt(variance / n));
  CHECK(std::abs(squares / n / variance - 1) < 6 * std::sqrt(2 / n));
}

TEST_CASE("init: SkipInit draws nothing") {
  default_generator() = Generator(13);
  {
    nn::SkipInit skip;
    CHECK(nn::SkipInit::active());
    nn::Linear layer(10, 10);
    CHECK(default_generator().offset() == 0);
  }
  CHECK_FALSE(nn::SkipInit::active());
  nn::Linear layer(10, 10);
  CHECK(default_generator().offset() > 0);
}
