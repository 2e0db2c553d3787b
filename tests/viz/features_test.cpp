// Captures of single layers and feature maps of many.
#include "grapnel/viz/features.h"

#include <doctest/doctest.h>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/ops.h"
#include "viz/expected.h"
#include "viz/small_nets.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

bool equal_values(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.to_vector<double>() == b.to_vector<double>();
}

}  // namespace

TEST_CASE("ResNet34 has 36 convolutions, captured in the order in which they run") {
  const auto net = nn::resnet34({.num_classes = 10, .width = 4});
  const auto names = all_convolutions(*net);
  std::vector<std::string> expected{"conv1"};
  const int blocks[] = {3, 4, 6, 3};
  for (int stage = 1; stage <= 4; ++stage)
    for (int block = 0; block < blocks[stage - 1]; ++block) {
      const std::string path = "layer" + std::to_string(stage) + "." + std::to_string(block) + ".";
      expected.push_back(path + "conv1");
      expected.push_back(path + "conv2");
      if (stage > 1 && block == 0) expected.push_back(path + "downsample.0");
    }
  REQUIRE(expected.size() == 36);
  CHECK(names == expected);

  const std::vector<std::string> backwards(names.rbegin(), names.rend());
  const auto found = capture_features(*net, reals("picture", {1, 3, 32, 32}), backwards);
  REQUIRE(found.size() == 36);
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i].layer == expected[i]);
  CHECK(found[0].activation.shape() == Shape{1, 4, 16, 16});
  CHECK(found[35].activation.shape() == Shape{1, 32, 1, 1});
}

TEST_CASE("features are those of eval mode, and the net is left as it was") {
  const auto net = narrow_resnet();
  const Tensor x = resnet_picture();
  const auto expected = capture_features(*net, x, {"layer1", "layer3"});
  net->train();
  const auto found = capture_features(*net, x, {"layer1", "layer3"});
  CHECK(net->training());
  net->eval();
  REQUIRE(found.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(equal_values(found[i].activation, expected[i].activation));
    CHECK_FALSE(found[i].activation.requires_grad());
  }
  CHECK(net->at("layer1").hook_names().forward.empty());
  CHECK(equal_values(found[0].activation, capture_features(*net, x, {"layer1"})[0].activation));
}

TEST_CASE("a layer that runs several times gives several captures") {
  const auto net = repeated_net();
  const auto found = capture_features(*net, picture_for("repeated", 9, 13), {"relu", "conv2"});
  std::vector<std::string> order;
  for (const FeatureMaps& maps : found) order.push_back(maps.layer);
  CHECK(order == std::vector<std::string>{"relu", "conv2", "relu", "conv2", "relu"});
  CHECK(equal_values(found[4].activation, relu(found[3].activation)));
}

TEST_CASE("a copy is what the layer returned, an alias what an in-place layer made of it") {
  const Tensor x = picture_for("plain", 22, 18);
  const std::vector<std::string> layers{"0.0", "0.1"};
  const auto apart = capture_features(*plain_net(), x, layers);
  const auto copied = capture_features(*plain_net(true), x, layers);
  const auto aliased = capture_features(*plain_net(true), x, layers, CaptureMode::alias);
  CHECK(equal_values(copied[0].activation, apart[0].activation));
  CHECK_FALSE(equal_values(apart[0].activation, apart[1].activation));
  CHECK(equal_values(aliased[0].activation, apart[1].activation));
  CHECK(equal_values(aliased[1].activation, apart[1].activation));
}

TEST_CASE("capture_features refuses in words") {
  const auto net = repeated_net();
  const Tensor x = picture_for("repeated", 9, 13);
  CHECK(
      contains(message_of<NameError>([&] { capture_features(*net, x, {"conv3"}); }), "no module \"conv3\""));
  CHECK(contains(message_of<Error>([&] {
                   capture_features(*net, x, {"conv1", "unused"});
                 }),
                 "\"unused\" did not run"));
  CHECK_THROWS_AS(capture_features(*net, Tensor::zeros({1, 4, 9, 13}, DType::float64), {"conv1"}),
                  ShapeError);
  CHECK(net->at("conv1").hook_names().forward.empty());
  CHECK_THROWS_AS(children_of(*net, "conv3"), NameError);
  CHECK(children_of(*plain_net(), "3") == std::vector<std::string>{"3.0", "3.1", "3.2", "3.3"});
}

TEST_CASE("a Capture keeps outputs and gradients of every call") {
  const auto net = repeated_net();
  const Tensor x = picture_for("repeated", 9, 13);
  Capture relu_capture(net->at("relu")), fc(net->at("fc"));
  const Tensor logits = (*net)(x);
  CHECK(relu_capture.calls() == 3);
  CHECK(equal_values(fc.activation(), logits));
  CHECK(contains(message_of<AutogradError>([&] { fc.gradient(); }), "run a backward pass"));

  const Tensor upstream = reals("upstream", {1, 10}).to(DType::float64);
  backward({logits}, {upstream}, {.retain_graph = true, .create_graph = false, .inputs = {}});
  CHECK(equal_values(fc.gradient(), upstream));
  CHECK(relu_capture.gradient(0).shape() == Shape{1, 5, 9, 13});
  // Behind the last ReLU is only the mean and the linear layer.
  const auto& weight = dynamic_cast<nn::Linear&>(net->at("fc")).weight;
  const Tensor pooled = matmul(upstream, weight) / (9.0 * 13.0);
  const Tensor last = expand(reshape(pooled, {1, 5, 1, 1}), {1, 5, 9, 13});
  const double worst = amax(abs(relu_capture.gradient() - last)).item();
  CHECK(worst <= 16 * std::numeric_limits<double>::epsilon() * amax(abs(last)).item());

  backward({logits}, {upstream});
  CHECK(equal_values(fc.gradient(), upstream * 2.0));
  CHECK(contains(message_of<Error>([&] { relu_capture.activation(3); }), "asked for call 3, there were 3"));
  relu_capture.clear();
  CHECK(relu_capture.calls() == 0);
  CHECK(contains(message_of<Error>([&] { relu_capture.activation(); }), "the last call, there were 0"));
}

TEST_CASE("a forgotten call takes no gradient, and a finished Capture leaves no hook") {
  const auto net = repeated_net();
  const Tensor x = picture_for("repeated", 9, 13);
  {
    Capture capture(net->at("conv1"));
    const Tensor first = (*net)(x);
    capture.clear();
    const Tensor second = (*net)(x);
    sum(first).backward();
    CHECK_THROWS_AS(capture.gradient(), AutogradError);
    sum(second).backward();
    CHECK(capture.gradient().defined());
    const NoGrad no_grad;
    (*net)(x);
    CHECK(contains(message_of<AutogradError>([&] { capture.gradient(); }), "was not recorded"));
  }
  CHECK(net->at("conv1").hook_names().forward.empty());
}

TEST_CASE("[better-3] an alias knows that it was overwritten, and gets the gradient of what it was") {
  const auto net = plain_net(true), apart = plain_net();
  const Tensor x = picture_for("plain", 22, 18);
  Capture alias(net->at("0.3"), CaptureMode::alias), copy(net->at("0.3")), expected(apart->at("0.3"));
  sum((*net)(x)).backward();
  sum((*apart)(x)).backward();
  CHECK(alias.overwritten());
  CHECK_FALSE(copy.overwritten());
  CHECK(equal_values(copy.activation(), expected.activation()));
  CHECK(equal_values(alias.activation(), relu(expected.activation())));
  CHECK(equal_values(alias.gradient(), expected.gradient()));
  CHECK(equal_values(copy.gradient(), expected.gradient()));
}
