// Module hooks: handles, names, removal, what may be returned. Their order is in hook_order_test.cpp, their
// errors in hook_errors_test.cpp.
#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/nn/layers.h"
#include "nn/any_hook.h"

using namespace grapnel;
using namespace grapnel::testing;

TEST_CASE("module hooks: a handle removes once and for all, and outlives its module") {
  int calls = 0;
  HookHandle orphan;
  {
    Scale net("net", 2);
    auto handles = register_all(net, counting(calls));
    net(leaf(3)).backward();
    CHECK(calls == 4);
    for (HookHandle& handle : handles) {
      HookHandle copy = handle;
      CHECK(copy.active());
      copy.remove();
      copy.remove();
      CHECK_FALSE(handle.active());
      handle.remove();
    }
    net(leaf(3)).backward();
    CHECK(calls == 4);
    orphan = net.register_forward_hook(counting(calls));
  }
  CHECK_FALSE(orphan.active());
  orphan.remove();
}

TEST_CASE("module hooks: a scoped hook lives as long as its scope") {
  int calls = 0;
  Scale net("net", 2);
  {
    ScopedHook hook = net.register_forward_hook(counting(calls));
    net(leaf(3));
  }
  net(leaf(3));
  CHECK(calls == 1);
}

TEST_CASE("[better-2] removal between forward and backward takes effect") {
  int pre = 0, full = 0;
  Scale net("net", 2);
  HookHandle first = net.register_full_backward_pre_hook(counting(pre));
  HookHandle second = net.register_full_backward_hook(counting(full));
  const Tensor x = leaf(3);
  const Tensor y = net(x);
  first.remove();
  y.backward({}, true);
  CHECK(pre == 0);
  CHECK(full == 1);
  second.remove();
  y.backward();
  CHECK(full == 1);
  CHECK(x.grad().item() == 4);
}

TEST_CASE("module hooks: a hook removed by an earlier one of the same run does not fire") {
  for (int kind = 0; kind < 4; ++kind) {
    Scale net("net", 2);
    int calls = 0;
    HookHandle victim;
    const auto remover = [&](nn::Module&, const auto&...) {
      victim.remove();
      return std::nullopt;
    };
    register_all(net, remover);
    victim = register_all(net, counting(calls))[static_cast<std::size_t>(kind)];
    net(leaf(3)).backward();
    CHECK(calls == 3);
  }
}

TEST_CASE("module hooks: listed by name in the order they run, and cleared") {
  int calls = 0;
  Scale net("net", 2);
  CHECK(net.hook_names().forward.empty());
  net.register_forward_pre_hook(counting(calls), {.name = "a"});
  net.register_forward_hook(counting(calls), {.name = "b"});
  net.register_forward_hook(counting(calls), {.prepend = true, .name = "c"});
  net.register_full_backward_pre_hook(counting(calls), {.name = "d"});
  HookHandle handle = net.register_full_backward_hook(counting(calls), {.name = "e"});
  CHECK(net.hook_names().forward_pre == std::vector<std::string>{"a"});
  CHECK(net.hook_names().forward == std::vector<std::string>{"c", "b"});
  CHECK(net.hook_names().full_backward_pre == std::vector<std::string>{"d"});
  CHECK(net.hook_names().full_backward == std::vector<std::string>{"e"});
  net.clear_hooks();
  CHECK(net.hook_names().forward.empty());
  CHECK_FALSE(handle.active());
  net(leaf(3)).backward();
  CHECK(calls == 0);
}

TEST_CASE("[hook-106] global ones see every module until they are removed") {
  int calls = 0;
  auto net = two_scales();
  {
    ScopedHook forward = nn::register_global_forward_hook(counting(calls));
    ScopedHook backward = nn::register_global_full_backward_hook(counting(calls));
    (*net)(leaf(3)).backward();
    CHECK(calls == 6);
  }
  (*net)(leaf(3)).backward();
  CHECK(calls == 6);
}

TEST_CASE("module hooks: a call without them leaves no trace in the graph") {
  Scale net("net", 2);
  CHECK(std::string(net(leaf(3)).grad_fn()->name()) == "mul");
  int calls = 0;
  net.register_forward_hook(counting(calls));
  CHECK(std::string(net(leaf(3)).grad_fn()->name()) == "mul");
  HookHandle handle = net.register_full_backward_hook(counting(calls));
  CHECK(std::string(net(leaf(3)).grad_fn()->name()) == "module_outputs");
  handle.remove();
  CHECK(std::string(net(leaf(3)).grad_fn()->name()) == "mul");
}

TEST_CASE("module hooks: nothing of the backward kinds happens where nothing is recorded") {
  int calls = 0;
  Scale net("net", 2);
  register_all(net, counting(calls));
  {
    NoGrad no_grad;
    CHECK_FALSE(net(leaf(3)).requires_grad());
  }
  CHECK(calls == 2);
  const Tensor computed = leaf(3) * 2.0;
  nn::ReLU overwriting(true);
  overwriting.register_full_backward_hook(counting(calls));
  {
    NoGrad no_grad;
    CHECK(overwriting(computed).is_same(computed));
  }
  net.set_requires_grad(false);
  CHECK_FALSE(net(leaf(3, false)).requires_grad());
  CHECK(calls == 4);
}

TEST_CASE("[hook-101] an input that needs no gradient has an unset slot, which cannot be filled") {
  SumAndProduct net("net");
  Tensors seen;
  net.register_full_backward_hook([&](nn::Module&, const Tensors& grad_inputs, const Tensors&) {
    seen = grad_inputs;
    return std::optional(Tensors{grad_inputs[0] * 2, Tensor::full({1}, 100)});
  });
  const Tensor a = leaf(3), b = leaf(4, false);
  net(Tensors{a, b})[1].backward();
  CHECK(seen[0].item() == 4);
  CHECK_FALSE(seen[1].defined());
  CHECK(a.grad().item() == 8);
  CHECK_FALSE(b.grad().defined());
}

TEST_CASE("module hooks: only the part of a pass that leads to the wanted gradients fires them") {
  int calls = 0;
  auto net = two_scales();
  net->first->register_full_backward_hook(counting(calls));
  const Tensor x = leaf(3);
  const Tensor y = (*net)(x);
  grad({y}, {net->second->parameters()[0]}, {}, {.retain_graph = true});
  CHECK(calls == 0);
  CHECK(grad({y}, {x})[0].item() == 10);
  CHECK(calls == 1);
}
