// explain_hooks: who fired, in which order, and each reason why others did not.
#include "grapnel/nn/explain.h"

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "nn/any_hook.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::explain_hooks;

namespace {

auto quiet() {
  return [](nn::Module&, const auto&...) { return std::nullopt; };
}

/// The reason why the only hook of `net` did not fire.
std::string reason(nn::Module& net) {
  const auto reports = nn::hook_reports(net);
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].order == 0);
  return reports[0].reason;
}

/// x * weight without a history.
struct Cutting : Scale {
  Cutting() : Scale("cutting", 2) {}
  Tensor forward(const Tensor& x) override { return (x * weight).detach(); }
};

}  // namespace

TEST_CASE("[better-4] explain_hooks: all that fired, in order") {
  auto net = two_scales();
  CHECK(explain_hooks(*net) == "no hooks were registered\n");
  net->register_full_backward_hook(quiet(), {.name = "whole"});
  net->second->register_full_backward_pre_hook(quiet(), {.name = "b"});
  net->second->register_forward_hook(quiet());
  net->first->register_forward_pre_hook(quiet(), {.name = "a"});
  for (int i = 0; i < 2; ++i) (*net)(leaf(3)).backward();
  CHECK(explain_hooks(*net) ==
        "1. forward pre hook \"a\" of first (Scale): fired (2 in all)\n"
        "2. forward hook of second (Scale): fired (2 in all)\n"
        "3. full backward pre hook \"b\" of second (Scale): fired (2 in all)\n"
        "4. full backward hook \"whole\" of Chain: fired (2 in all)\n");
  CHECK(explain_hooks(*net->first) == "1. forward pre hook \"a\" of first (Scale): fired (2 in all)\n");
}

TEST_CASE("[better-4] explain_hooks: a hook whose module was not called since it was registered") {
  Scale net("net", 2);
  net(leaf(3));
  net.register_forward_hook(quiet(), {.name = "late"});
  CHECK(reason(net) == "its module was not called since it was registered");
  CHECK(explain_hooks(net) ==
        "-  forward hook \"late\" of Scale: its module was not called since it was registered (0 in all)\n");
  net(leaf(3));
  CHECK(nn::hook_reports(net)[0].order == 1);
  CHECK(nn::hook_reports(net)[0].reason.empty());
  net.register_forward_hook(quiet(), {.name = "later"});
  CHECK(nn::hook_reports(net)[1].reason == "its module was not called since it was registered");
}

TEST_CASE("[better-4] explain_hooks: why a backward hook did not fire") {
  Scale net("net", 2);
  net.register_full_backward_hook(quiet());
  {
    NoGrad no_grad;
    net(leaf(3));
  }
  CHECK(reason(net) == "the last call ran without recording (NoGrad)");
  {
    InferenceMode inference;
    net(leaf(3));
  }
  CHECK(reason(net) == "the last call ran in inference mode");
  net.set_requires_grad(false);
  net(leaf(3, false));
  CHECK(reason(net) == "no input and no parameter requires a gradient");
  const Tensor x = leaf(3);
  const Tensor y = net(x);
  CHECK(reason(net) == "no backward pass has reached its module since the last call");
  y.backward();
  CHECK(nn::hook_reports(net)[0].order == 1);
}

TEST_CASE("[better-4] explain_hooks: a pass that ends inside, and a forward that cuts the graph") {
  Scale net("net", 2);
  net.register_full_backward_hook(quiet());
  grad({net(leaf(3))}, {net.weight});
  CHECK(reason(net) == "a backward pass reached the outputs of its module, but not the inputs");
  Cutting cutting;
  cutting.register_full_backward_pre_hook(quiet());
  for (const bool input_needs_gradient : {false, true}) {
    cutting(leaf(3, input_needs_gradient));
    CHECK(reason(cutting) ==
          "no output requires a gradient, although an input or parameter does: forward cut the graph");
  }
}

TEST_CASE("[better-4] explain_hooks: a call that threw, and what a later call forgets") {
  Scale net("net", 2);
  ScopedHook bad = net.register_forward_pre_hook(throwing(Error("on purpose")), {.name = "bad"});
  net.register_forward_hook(quiet());
  CHECK_THROWS_AS(net(leaf(3)), Error);
  CHECK(explain_hooks(net) ==
        "1. forward pre hook \"bad\" of Scale: fired (1 in all)\n"
        "-  forward hook of Scale: the last call threw (0 in all)\n");
  bad = {};
  CHECK(explain_hooks(net).starts_with(
      "1. forward pre hook \"bad\" of Scale: fired, removed since (1 in all)\n"));
  net(leaf(3));
  CHECK(explain_hooks(net) ==
        "1. forward hook of Scale: fired (1 in all)\n"
        "-  forward pre hook \"bad\" of Scale: it was removed (1 in all)\n");
}

TEST_CASE("[better-4] explain_hooks: state hooks belong to no call") {
  Scale net("net", 2);
  net.register_state_dict_pre_hook([](auto&&...) {});
  CHECK(reason(net) == "nothing was saved or loaded since it was registered");
  net.state_dict();
  net(leaf(3));
  CHECK(nn::hook_reports(net)[0].fired == 1);
  CHECK(nn::hook_reports(net)[0].order == 1);
}

TEST_CASE("[better-4] explain_hooks: of many removed hooks only the last are remembered") {
  Scale net("net", 2);
  net.register_forward_hook(quiet(), {.name = "stays"});
  for (int i = 0; i < 1000; ++i) ScopedHook(net.register_forward_hook(quiet()));
  const auto reports = nn::hook_reports(net);
  CHECK(reports.size() <= 64);
  CHECK(reports[0].hook == "forward hook \"stays\" of Scale");
}

TEST_CASE("[better-4] a tensor hook where no gradient is computed says why") {
  auto net = two_scales();
  net->first->register_forward_hook([](nn::Module&, const Tensors&, const Tensors& outputs) {
    outputs[0].register_hook([](const Tensor&) { return std::nullopt; });
    return std::nullopt;
  });
  const auto call = [&] { (*net)(leaf(3, false)); };
  net->set_requires_grad(false);
  CHECK(message_of<AutogradError>(call).find("frozen parameters") != std::string::npos);
  net->set_requires_grad(true);
  NoGrad no_grad;
  CHECK(message_of<AutogradError>(call).find("NoGrad") != std::string::npos);
  InferenceMode inference;
  CHECK(message_of<AutogradError>(call).find("inference mode") != std::string::npos);
}
