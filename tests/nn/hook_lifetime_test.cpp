// Module hooks: who keeps whom alive, passes inside hooks, passes in several threads, memory.
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/node.h"
#include "grapnel/nn/resnet.h"
#include "nn/any_hook.h"
#include "support/device.h"

using namespace grapnel;
using namespace grapnel::testing;

#ifndef GRAPNEL_SANITIZED
namespace {

/// Resident memory of this process, in pages (Linux).
long resident_pages() {
  long size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident;
}

}  // namespace

// AddressSanitizer keeps freed memory on purpose; its leak check stands in for this one.
TEST_CASE("[better-8] hooked passes leave memory flat (10,000 of them if GRAPNEL_TEST_LONG is set)" *
          on_cpu_only("the CPU's memory is counted")) {
  const auto net = nn::resnet18({.num_classes = 10, .width = 8, .inplace = true});
  int calls = 0;
  for (const auto& [path, module] : net->named_modules()) register_all(*module, counting(calls));
  const Tensor x = Tensor::ones({1, 3, 32, 32}).set_requires_grad();
  net->eval();
  const auto passes = [&](int count) {
    for (int i = 0; i < count; ++i) {
      ScopedHook passing = net->register_forward_hook(counting(calls));
      const Tensor y = (*net)(x);
      y.register_hook([&](const Tensor&) {
        ++calls;
        return std::nullopt;
      });
      sum(y).backward();
    }
  };
  passes(20);
  const long before = resident_pages();
  REQUIRE(before > 0);
  calls = 0;
  const int count = std::getenv("GRAPNEL_TEST_LONG") ? 10000 : 60;
  passes(count);
  CHECK(calls == count * (4 * 76 + 2));
  // A leaked node a pass and module would be hundreds of pages.
  CHECK(resident_pages() - before <= 64);
}
#endif

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

TEST_CASE("module hooks: concurrent passes through one graph keep their gradients apart" *
          not_on_model("several threads")) {
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
    threads.emplace_back([&, t, device = default_device()] {
      const DefaultDevice here(device);
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

TEST_CASE("[better-8] a pass holds the gradients of a module no longer than its hooks need them") {
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

TEST_CASE("[better-8] the graph keeps no module alive, and its hooks end with it") {
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

TEST_CASE("[hook-105] [better-8] graph, module and hooks are freed without a cycle") {
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
