// ResNet18, ResNet34 and VGG16 against torchvision's, run by PyTorch in float64 (../golden/make_networks.py):
// logits, loss, the output of every leaf module in execution order, the gradient of the input and of every
// parameter, and the running statistics after a training step. Weights and pictures come from a formula, so
// nothing large is stored.
#include <doctest/doctest.h>

#include <cmath>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/init.h"
#include "grapnel/nn/models.h"
#include "support/device.h"
#include "support/golden.h"

using namespace grapnel;
using testing::GoldenDigest;
using testing::GoldenMode;
using testing::GoldenNetwork;
using testing::relative_error;

namespace {

// Relative L2 errors allowed to float32; ../golden/README.md says what float32 itself costs.
constexpr double kForward = 1e-5;
constexpr double kGradient = 1e-4;

std::shared_ptr<nn::Module> build(const std::string& name) {
  nn::SkipInit skip;
  NoGrad guard;
  auto net = nn::make_model(name);
  for (auto& [key, tensor] : net->state_dict()) tensor.copy_(testing::network_tensor(key, tensor.shape()));
  return net;
}

Tensor picture(const std::string& name, const Shape& shape) {
  return testing::reals(name, shape, static_cast<float>(std::sqrt(3.0)));
}

std::vector<std::string> names(const std::vector<GoldenDigest>& records) {
  std::vector<std::string> result;
  for (const GoldenDigest& record : records) result.push_back(record.name);
  return result;
}

/// Judges the outputs of all leaf modules as they come; names what ran in `order`.
void check_activations(nn::Module& net, const GoldenMode& golden, std::vector<std::string>& order) {
  for (const auto& [path, module] : net.named_modules()) {
    if (!module->named_children().empty()) continue;
    module->register_forward_hook([&, name = path](nn::Module&, const Tensors&, const Tensors& outputs) {
      const std::size_t at = order.size();
      order.push_back(name);
      INFO("activation ", at, " ", name);
      REQUIRE(at < golden.activations.size());
      CHECK(relative_error(outputs[0], golden.activations[at]) <= kForward);
      return std::nullopt;
    });
  }
}

void check(const std::vector<GoldenDigest>& golden, const nn::NamedTensors& found, double tolerance) {
  std::vector<std::string> found_names;
  for (const auto& entry : found) found_names.push_back(entry.first);
  REQUIRE(names(golden) == found_names);
  for (std::size_t i = 0; i < golden.size(); ++i) {
    INFO(golden[i].name);
    REQUIRE(found[i].second.defined());
    CHECK(relative_error(found[i].second, golden[i]) <= tolerance);
  }
}

/// One step of training, or of explaining, in the mode the golden file names.
void check_step(const std::string& name, const std::string& mode) {
  const GoldenNetwork file = testing::read_network(name);
  const GoldenMode& golden = file.modes.at(mode);
  const auto net = build(name);
  net->train(mode == "train");
  for (const auto& [path, module] : net->named_modules())
    if (module->type_name() == "Dropout") module->eval();  // nobody reproduces another one's random numbers

  std::vector<std::string> order;
  check_activations(*net, golden, order);
  const Tensor x = picture(file.input_name, file.input_shape).set_requires_grad();
  const Tensor logits = (*net)(x);
  CHECK(order == names(golden.activations));
  REQUIRE(logits.shape() == golden.logits_shape);
  CHECK(relative_error(logits, golden.logits) <= kForward);

  const Tensor loss = cross_entropy(logits, testing::integers("labels", {file.input_shape[0]}, 1000));
  CHECK(std::abs(loss.item() - golden.loss) <= kForward * golden.loss);
  loss.backward();
  nn::NamedTensors gradients{{"input", x.grad()}};
  for (const auto& [path, parameter] : net->named_parameters())
    gradients.emplace_back(path, parameter.grad());
  check(golden.gradients, gradients, kGradient);
  if (mode == "train") check(golden.statistics, net->named_buffers(), kForward);
}

/// A picture of the usual size, inference only.
void check_large(const std::string& name) {
  const GoldenNetwork file = testing::read_network(name);
  const GoldenMode& golden = file.modes.at("large");
  const auto net = build(name);
  net->eval();
  InferenceMode guard;
  const Tensor logits = (*net)(picture(file.large_input_name, file.large_input_shape));
  REQUIRE(logits.shape() == golden.logits_shape);
  CHECK(relative_error(logits, golden.logits) <= kForward);
}

}  // namespace

TEST_CASE("torchvision: ResNet18 in evaluation" * testing::not_on_model("minutes")) {
  check_step("resnet18", "eval");
}
TEST_CASE("torchvision: ResNet18 in training" * testing::not_on_model("minutes")) {
  check_step("resnet18", "train");
}
TEST_CASE("torchvision: ResNet18 on a 224x224 picture" * testing::not_on_model("minutes")) {
  check_large("resnet18");
}
TEST_CASE("torchvision: ResNet34 in evaluation" * testing::not_on_model("minutes")) {
  check_step("resnet34", "eval");
}
TEST_CASE("torchvision: ResNet34 in training" * testing::not_on_model("minutes")) {
  check_step("resnet34", "train");
}
TEST_CASE("torchvision: ResNet34 on a 224x224 picture" * testing::not_on_model("minutes")) {
  check_large("resnet34");
}
TEST_CASE("torchvision: VGG16 in evaluation" * testing::not_on_model("minutes")) {
  check_step("vgg16", "eval");
}
TEST_CASE("torchvision: VGG16 in training" * testing::not_on_model("minutes")) {
  check_step("vgg16", "train");
}
TEST_CASE("torchvision: VGG16 on a 224x224 picture" * testing::not_on_model("minutes")) {
  check_large("vgg16");
}
