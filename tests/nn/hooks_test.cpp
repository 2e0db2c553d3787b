// Module hooks: handles, removal, what may be returned, errors, lifetimes, threads. Their order is in
// hook_order_test.cpp.
#include <atomic>
#include <thread>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/nn/layers.h"
#include "nn/small_modules.h"

using namespace grapnel;
using namespace grapnel::testing;

namespace {

/// A hook of any kind that counts its calls.
auto counting(int& calls) {
  return [&calls](nn::Module&, const auto&...) {
    ++calls;
    return std::nullopt;
  };
}

/// A hook of any kind that returns `tensors`.
auto returning(Tensors tensors) {
  return [=](nn::Module&, const auto&...) { return std::optional(tensors); };
}

/// A hook of any kind that throws `error`.
template <class E>
auto throwing(E error) {
  return [=](nn::Module&, const auto&...) -> std::optional<Tensors> { throw error; };
}

/// Registers the same hook as each of the four kinds.
template <class Hook>
std::vector<HookHandle> register_all(nn::Module& module, const Hook& hook) {
  return {module.register_forward_pre_hook(hook), module.register_forward_hook(hook),
          module.register_full_backward_pre_hook(hook), module.register_full_backward_hook(hook)};
}

/// The message of the exception of class E that f throws.
template <class E, class F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  }
  FAIL("no exception of the expected class");
  return {};
}

}  // namespace

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

TEST_CASE("module hooks: removal between forward and backward takes effect") {
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

TEST_CASE("module hooks: global ones see every module until they are removed") {
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

TEST_CASE("module hooks: an input that needs no gradient has an unset slot, which cannot be filled") {
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

TEST_CASE("module hooks: a list of the wrong length is refused with both counts") {
  const auto expect = [](const char* kind, auto registration) {
    auto net = two_scales();
    ((*net->second).*registration)(returning({leaf(1), leaf(1)}), {.name = "two"});
    const std::string message = message_of<ShapeError>([&] { (*net)(leaf(3)).backward(); });
    CHECK(message == std::string(kind) + " hook \"two\" of second (Scale): returned 2 tensors, expected 1");
  };
  expect("forward pre", &nn::Module::register_forward_pre_hook);
  expect("forward", &nn::Module::register_forward_hook);
  expect("full backward pre", &nn::Module::register_full_backward_pre_hook);
  expect("full backward", &nn::Module::register_full_backward_hook);
}

TEST_CASE("module hooks: a gradient of another shape or type is refused") {
  Scale net("net", 2);
  ScopedHook wrong = net.register_full_backward_hook(returning({Tensor::ones({2})}), {.name = "wide"});
  CHECK(message_of<ShapeError>([&] { net(leaf(3)).backward(); }) ==
        "full backward hook \"wide\" of Scale: returned gradient 0 of shape (2,), expected (1,)");
  wrong = net.register_full_backward_pre_hook(returning({Tensor::ones({1}, DType::float64)}));
  CHECK(message_of<TypeError>([&] { net(leaf(3)).backward(); }) ==
        "full backward pre hook of Scale: returned gradient 0 of type float64, expected float32");
}

TEST_CASE("module hooks: an exception names the hook, keeps its class, and leaves the engine usable") {
  auto net = two_scales();
  const auto expect = [&](auto registration, const std::string& kind) {
    const std::string where = kind + " hook \"bad\" of second (Scale): boom";
    const auto run = [&] { (*net)(leaf(3)).backward(); };
    ScopedHook hook = ((*net->second).*registration)(throwing(NameError("boom")), {.name = "bad"});
    CHECK(message_of<NameError>(run) == where);
    hook = ((*net->second).*registration)(throwing(AutogradError("boom")), {.name = "bad"});
    CHECK(message_of<AutogradError>(run) == where);
    hook = ((*net->second).*registration)(throwing(std::runtime_error("boom")), {.name = "bad"});
    CHECK(message_of<Error>(run) == where);
    try {
      run();
    } catch (const std::exception& error) {
      CHECK_THROWS_WITH_AS(std::rethrow_if_nested(error), "boom", std::runtime_error);
    }
    hook = {};
    const Tensor x = leaf(3);
    (*net)(x).backward();
    CHECK(x.grad().item() == 10);
    CHECK(grad_enabled());
  };
  expect(&nn::Module::register_forward_pre_hook, "forward pre");
  expect(&nn::Module::register_forward_hook, "forward");
  expect(&nn::Module::register_full_backward_pre_hook, "full backward pre");
  expect(&nn::Module::register_full_backward_hook, "full backward");
}

TEST_CASE("module hooks: the original error wins over one of an always_call hook") {
  Failing net("net");
  net.register_forward_hook(throwing(Error("too late")), {.always_call = true, .name = {}});
  CHECK(message_of<Error>([&] { net(leaf(3)); }) == "on purpose");
}

TEST_CASE("module hooks: a hook may run a backward pass of its own through the same graph") {
  Scale net("net", 2);
  const Tensor x = leaf(3);
  Tensor y;
  bool nested = false;
  std::vector<double> seen;
  net.register_full_backward_pre_hook([&](nn::Module&, const Tensors& grad_outputs) {
    if (!std::exchange(nested, true)) grad({y}, {x}, {Tensor::full({1}, 10)}, {.retain_graph = true});
    return std::optional(Tensors{grad_outputs[0] * 3});
  });
  net.register_full_backward_hook([&](nn::Module&, const Tensors& grad_inputs, const Tensors& grad_outputs) {
    seen.insert(seen.end(), {grad_inputs[0].item(), grad_outputs[0].item()});
    return std::nullopt;
  });
  y = net(x);
  y.backward();
  CHECK(seen == std::vector<double>{60, 30, 6, 3});
  CHECK(x.grad().item() == 6);
}

TEST_CASE("module hooks: concurrent passes through one graph keep their gradients apart") {
  constexpr int kThreads = 4, kPasses = 200;
  Scale net("net", 2);
  std::atomic<int> calls = 0, wrong = 0;
  net.register_full_backward_hook([&](nn::Module&, const Tensors& grad_inputs, const Tensors& grad_outputs) {
    ++calls;
    if (grad_inputs[0].item() != 2 * grad_outputs[0].item()) ++wrong;
    return std::nullopt;
  });
  const Tensor x = leaf(3);
  const Tensor y = net(x);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPasses; ++i) {
        const Tensor seed = Tensor::full({1}, t + 1);
        if (grad({y}, {x}, {seed}, {.retain_graph = true})[0].item() != 2 * (t + 1)) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(calls == kThreads * kPasses);
  CHECK(wrong == 0);
}

TEST_CASE("module hooks: a hook that drops the last reference to its module is safe") {
  auto net = std::make_shared<Scale>("net", 2);
  const std::weak_ptr<Scale> watch = net;
  const auto drop = [&](nn::Module& module, const auto&...) {
    net.reset();
    CHECK_FALSE(watch.expired());
    CHECK(dynamic_cast<Scale&>(module).label == "net");
    return std::nullopt;
  };
  SUBCASE("forward pre") {
    net->register_forward_pre_hook(drop);
  }
  SUBCASE("forward") {
    net->register_forward_hook(drop);
  }
  SUBCASE("full backward") {
    net->register_full_backward_hook(drop);
  }
  SUBCASE("full backward pre") {
    net->register_full_backward_pre_hook(drop);
  }
  const Tensor x = leaf(3);
  const Tensor y = (*net)(x);
  y.backward();
  CHECK(watch.expired());
  CHECK(x.grad().item() == 2);
}

TEST_CASE("module hooks: a pass holds the gradients of a module no longer than its hooks need them") {
  auto net = two_scales();
  std::weak_ptr<TensorImpl> second;
  net->second->register_full_backward_hook([&](nn::Module&, const Tensors&, const Tensors& grad_outputs) {
    second = grad_outputs[0].impl();
    return std::nullopt;
  });
  bool held = true;
  net->first->register_full_backward_hook([&](nn::Module&, const Tensors&, const Tensors&) {
    held = !second.expired();
    return std::nullopt;
  });
  sum((*net)(leaf(3)) * 2.0).backward();
  CHECK_FALSE(held);
}

TEST_CASE("module hooks: the graph keeps no module alive, and its hooks end with it") {
  int calls = 0;
  const Tensor x = leaf(3);
  Tensor y;
  {
    auto net = std::make_shared<Scale>("net", 2);
    net->register_full_backward_pre_hook(counting(calls));
    net->register_full_backward_hook(counting(calls));
    y = (*net)(x);
  }
  y.backward();
  CHECK(calls == 0);
  CHECK(x.grad().item() == 2);
}

TEST_CASE("module hooks: graph, module and hooks are freed without a cycle") {
  // Hooks that keep everything they see, graph and all, in a store that they own themselves.
  auto store = std::make_shared<Tensors>();
  std::weak_ptr<Tensors> store_watch = store;
  std::weak_ptr<Node> node_watch;
  std::weak_ptr<TensorImpl> leaf_watch;
  {
    auto net = two_scales();
    const auto keep = [store](nn::Module&, const auto&... lists) {
      (store->insert(store->end(), lists.begin(), lists.end()), ...);
      return std::nullopt;
    };
    register_all(*net, keep);
    register_all(*net->first, keep);
    const Tensor x = leaf(3);
    leaf_watch = x.impl();
    const Tensor y = (*net)(x);
    node_watch = y.grad_fn();
    SUBCASE("after a full pass that is itself recorded") {
      grad({y * y}, {x}, {}, {.create_graph = true});
    }
    SUBCASE("after a pass that ends inside the module") {
      grad({y * y}, {net->second->parameters()[0]}, {}, {.create_graph = true});
    }
    SUBCASE("without a pass") {}
    store.reset();
    CHECK_FALSE(store_watch.expired());
  }
  CHECK(store_watch.expired());
  CHECK(node_watch.expired());
  CHECK(leaf_watch.expired());
}

TEST_CASE("module calls: a wrong number of tensors is an error that says so") {
  CHECK(message_of<ShapeError>([] { Cube("net")(Tensors{}); }) == "Cube: takes one tensor, got 0");
  struct Two : Labelled {
    using Labelled::Labelled;
    std::string type_name() const override { return "Two"; }
    Tensors forward_list(const Tensors& x) override { return {x[0], x[0]}; }
  };
  CHECK(message_of<ShapeError>([] { Two("net")(leaf(1)); }) ==
        "Two: called for one tensor, it gave 2; call it with a list");
  struct Nothing : Labelled {
    using Labelled::Labelled;
    std::string type_name() const override { return "Nothing"; }
  };
  CHECK(message_of<Error>([] { Nothing("net")(leaf(1)); }) ==
        "Nothing: it computes nothing of its own; override forward or forward_list");
}
