// Optimizers: values against PyTorch (golden/make_sgd.py), hooks around steps, wrong
// uses.
#include "grapnel/nn/sgd.h"

#include <sstream>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/adam.h"
#include "nn/any_hook.h"
#include "nn/scenario.h"
#include "support/device.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::Optimizer;
using nn::SGD;

namespace {

Tensor parameter(std::initializer_list<double> values) {
  return Tensor::from<double>(values, {static_cast<std::int64_t>(values.size())})
      .to(finest_type())
      .set_requires_grad();
}

/// One with the gradient 1.
Tensor with_gradient(double value) {
  const Tensor p = leaf(value);
  p.set_grad(Tensor::ones({1}));
  return p;
}

}  // namespace

TEST_CASE("SGD: every combination of settings steps as PyTorch's") {
  for (const char* settings : {"0.1 0 0 0 0", "0.1 0 0 0.5 0", "0.1 0.9 0 0 0", "0.1 0.9 0.3 0 0",
                               "0.1 0.9 0 0 1", "0.05 0.5 0 0.25 1", "0.05 0.5 0.75 0.25 0"}) {
    CAPTURE(settings);
    nn::SGDOptions options;
    std::istringstream(settings) >> options.lr >> options.momentum >> options.dampening >>
        options.weight_decay >> options.nesterov;
    const Tensors parameters{parameter({0.5, -1}), parameter({2, 1.5})};
    SGD optimizer(parameters, options);
    const auto expected = scenario_lines("sgd.txt", settings);
    REQUIRE(expected.size() == 4);
    for (std::size_t step = 0; step < expected.size(); ++step) {
      optimizer.zero_grad();
      for (std::size_t i = 0; i < (step == 1 ? 1 : 2); ++i) {
        const Tensor p = parameters[i].detach();
        parameters[i].set_grad(p * p - 3);
      }
      optimizer.step();
      std::istringstream line(expected[step]);
      for (const Tensor& p : parameters)
        for (const double value : p.to_vector<double>()) {
          double wanted = 0;
          line >> wanted;
          // Four steps of some ten roundings, each of a value not far above 1.
          CHECK(value == doctest::Approx(wanted).epsilon(64 * epsilon(p.dtype())));
        }
    }
  }
}

TEST_CASE("Optimizer: a step is not recorded, keeps gradients, and skips what has none") {
  const Tensor a = with_gradient(3), b = leaf(5);
  SGD optimizer({a, b}, {.lr = 1, .momentum = 0.5});
  const Tensor gradient = a.grad();
  const auto version = a.version();
  optimizer.step();
  optimizer.step();
  CHECK(a.item() == 3 - 1 - 1.5);
  CHECK(a.is_leaf());
  CHECK(a.version() > version);
  CHECK(gradient.item() == 1);
  CHECK(a.grad().is_same(gradient));
  CHECK(b.item() == 5);
  optimizer.zero_grad();
  CHECK_FALSE(a.grad().defined());
  optimizer.step();
  CHECK(a.item() == 0.5);
  CHECK(grad_enabled());
}

TEST_CASE("Optimizer: settings may be changed between steps") {
  const Tensor p = with_gradient(3);
  SGD optimizer({p}, {.lr = 1});
  optimizer.options().lr = 0.5;
  optimizer.step();
  CHECK(p.item() == 2.5);
}

TEST_CASE("[hook-107] step hooks run before and after, in order, and are removable") {
  const Tensor p = with_gradient(3);
  SGD optimizer({p}, {.lr = 1});
  std::vector<std::string> events;
  const auto note = [&](const std::string& name) {
    return [&events, name](Optimizer& stepping) {
      events.push_back(name + " " + std::to_string(static_cast<int>(stepping.parameters()[0].item())));
    };
  };
  HookHandle pre = optimizer.register_step_pre_hook(note("pre1"), "first");
  optimizer.register_step_pre_hook(note("pre2"));
  HookHandle post = optimizer.register_step_post_hook(note("post1"));
  ScopedHook last = optimizer.register_step_post_hook(note("post2"));
  optimizer.step();
  CHECK(events == std::vector<std::string>{"pre1 3", "pre2 3", "post1 2", "post2 2"});
  events.clear();
  pre.remove();
  last = {};
  HookHandle self;
  self = optimizer.register_step_pre_hook([&](Optimizer&) {
    self.remove();
    post.remove();
    events.push_back("self");
  });
  optimizer.step();
  optimizer.step();
  CHECK(events == std::vector<std::string>{"pre2 2", "self", "pre2 1"});
}

TEST_CASE("[hook-107] a step pre-hook may change gradients, and one that throws stops the step") {
  const Tensor p = with_gradient(3);
  SGD optimizer({p}, {.lr = 1});
  ScopedHook scale = optimizer.register_step_pre_hook(
      [](Optimizer& stepping) { stepping.parameters()[0].set_grad(Tensor::full({1}, 10)); });
  optimizer.step();
  CHECK(p.item() == -7);
  ScopedHook bad = optimizer.register_step_pre_hook([](Optimizer&) { throw NameError("boom"); }, "bad");
  CHECK(message_of<NameError>([&] { optimizer.step(); }) == "step pre hook \"bad\": boom");
  CHECK(p.item() == -7);
  bad = optimizer.register_step_post_hook([](Optimizer&) { throw std::runtime_error("boom"); });
  CHECK(message_of<Error>([&] { optimizer.step(); }) == "step post hook: boom");
  CHECK(p.item() == -17);
  CHECK(grad_enabled());
}

TEST_CASE("[hook-77] optimizer-in-backward equals a step after it") {
  const auto train = [](bool in_backward) {
    auto net = two_scales();
    std::vector<std::unique_ptr<SGD>> each;
    const nn::SGDOptions options{.lr = 0.01, .momentum = 0.9};
    SGD all(net->parameters(), options);
    if (in_backward)
      for (const Tensor& p : net->parameters())
        p.register_post_accumulate_grad_hook(
            [optimizer = each.emplace_back(std::make_unique<SGD>(Tensors{p}, options)).get()](Tensor&) {
              optimizer->step();
              optimizer->zero_grad();
            });
    std::vector<double> values;
    for (int i = 0; i < 3; ++i) {
      (*net)(leaf(1)).backward();
      if (!in_backward) {
        all.step();
        all.zero_grad();
      }
      for (const Tensor& p : net->parameters()) values.push_back(p.item());
    }
    return values;
  };
  CHECK(train(true) == train(false));
  CHECK(train(true).back() != 5);
}

TEST_CASE("Optimizer: wrong uses say what came and what was expected") {
  const Tensor p = leaf(1);
  const auto refuses = [](const Tensors& parameters, nn::SGDOptions options = {}) {
    return message_of<Error>([&] { SGD(parameters, options); });
  };
  CHECK(refuses({}) == "Optimizer: got no parameters, expected at least one");
  CHECK(refuses({p, Tensor()}) == "Optimizer: parameter 1 is unset");
  CHECK(refuses({leaf(1, false)}) ==
        "Optimizer: parameter 0 requires no gradient, expected a leaf that requires one");
  CHECK(refuses({p * 2}) == "Optimizer: parameter 0 is a computed tensor, expected a leaf that requires one");
  CHECK(refuses({p, p}) == "Optimizer: parameter 1 is in the list twice");
  CHECK(refuses({p}, {.lr = -1}) == "SGD: lr is -1.000000, expected at least 0");
  CHECK(refuses({p}, {.momentum = -1}) == "SGD: momentum is -1.000000, expected at least 0");
  CHECK(refuses({p}, {.weight_decay = -1}) == "SGD: weight_decay is -1.000000, expected at least 0");
  const auto adam_refuses = [&p](nn::AdamOptions options) {
    return message_of<Error>([&] { nn::AdamW({p}, options); });
  };
  CHECK(adam_refuses({.lr = -1}) == "AdamW: lr is -1.000000, expected at least 0");
  CHECK(adam_refuses({.eps = -1}) == "AdamW: eps is -1.000000, expected at least 0");
  CHECK(adam_refuses({.weight_decay = -1}) == "AdamW: weight_decay is -1.000000, expected at least 0");
  CHECK(adam_refuses({.betas = {0.9, 1}}) == "AdamW: a beta is 1.000000, expected at least 0 and below 1");
  CHECK(refuses({p}, {.nesterov = true}) ==
        "SGD: nesterov needs a momentum above 0 and no dampening, got momentum 0.000000 and dampening "
        "0.000000");
  SGD optimizer({p});
  CHECK(message_of<Error>([&] { optimizer.register_step_pre_hook(nullptr); }) ==
        "step pre hook: an empty function was registered, expected a hook");
}
