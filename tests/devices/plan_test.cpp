// A plan on a CUDA device, which is a graph there, against the network itself. Runs as engine_test.cpp does.
#include <doctest/doctest.h>

#include "devices/device_testing.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/layers.h"
#include "grapnel/nn/plan.h"

using namespace grapnel;
using namespace grapnel::testing;

TEST_CASE("a plan answers as its network, with new inputs, a hook, new weights, another shape") {
  NEEDS_DEVICE();
  default_generator() = Generator(3);
  const auto net = std::make_shared<nn::Sequential>(std::vector<std::shared_ptr<nn::Module>>{
      std::make_shared<nn::Conv2d>(3, 8, std::pair{3, 3}, Conv2dOptions{.padding = {1, 1}}),
      std::make_shared<nn::BatchNorm2d>(8), std::make_shared<nn::ReLU>(),
      std::make_shared<nn::MaxPool2d>(Pool2dOptions{.kernel = {2, 2}}),
      std::make_shared<nn::AdaptiveAvgPool2d>(1, 1), std::make_shared<nn::Flatten>(),
      std::make_shared<nn::Linear>(8, 5)});
  net->eval();
  net->to(Device::cuda());
  Generator generator(4);
  const auto picture = [&](std::int64_t n) {
    return Tensor::randn({n, 3, 8, 8}, generator).to(Device::cuda());
  };
  const Plan ask = plan(net, picture(2));
  const auto check = [&](std::int64_t n, int times) {
    for (int i = 0; i < times; ++i) {
      const Tensor x = picture(n), got = ask(x), next = ask(picture(n));
      const InferenceMode inference;
      const Fusion fusion;
      CHECK(got.to_vector<float>() == (*net)(x).to_vector<float>());
    }
  };
  check(2, 2);
  int met = 0;
  {
    const ScopedHook hook =
        net->at("2").register_forward_hook([&](nn::Module&, const Tensors&, const Tensors& outputs) {
          ++met;
          return std::optional(Tensors{outputs[0] * 2});
        });
    check(2, 1);
  }
  CHECK(met == 3);
  check(2, 1);
  const NoGrad no_grad;
  for (const Tensor& weight : net->parameters()) weight.copy_(weight * 1.5);
  check(2, 3);
  check(1, 3);
}
