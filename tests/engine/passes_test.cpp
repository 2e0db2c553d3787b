// Backward passes inside backward passes, in several threads, with a graph of their own, and watched for NaN.
#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/saved_tensor_hooks.h"
#include "support/device.h"

using namespace grapnel;

namespace {

using Floats = std::vector<float>;

Tensor leaf(std::initializer_list<float> values) {
  return Tensor::from<float>(values, {static_cast<std::int64_t>(values.size())}).set_requires_grad();
}

Floats values(const Tensor& x) {
  return x.to_vector<float>();
}

/// y = x; going backward, runs a pass through a graph of the same kind, `depth` levels down.
Tensor nested(const Tensor& x, int depth, int& deepest) {
  return record("nested", x.detach().clone(), {x}, {}, [=, &deepest](const Backward& ctx) -> Tensors {
    deepest = std::max(deepest, depth);
    if (depth < 2000) {
      GradMode recording(true);
      const Tensor inner = leaf({1});
      nested(inner, depth + 1, deepest).backward();
      CHECK_EQ(values(inner.grad()), Floats{1});
    }
    return {ctx.grad()};
  });
}

}  // namespace

TEST_CASE("[hook-21] detach_ of a saved input is an error, of a saved output it is not") {
  const Tensor x = leaf({2});
  const Tensor a = x.clone(), y = log(a);
  a.detach_();
  CHECK_THROWS_WITH_AS(y.backward(),
                       doctest::Contains("log: a saved tensor of shape (1,) was detached in place"),
                       AutogradError);
  const Tensor b = x * 1.0, z = exp(b);
  z.detach_();
  CHECK(z.is_leaf());
  const Tensor c = x * 1.0, w = exp(c);
  c.detach_();  // exp keeps its output only
  CHECK_NOTHROW(w.backward());
  CHECK(x.grad().defined());
}

TEST_CASE("[hook-34] argmax gives no gradient") {
  const Tensor x = leaf({1, 3, 2});
  const Tensor best = argmax(x, 0);
  CHECK_FALSE(best.requires_grad());
  CHECK_THROWS_AS(best.backward(), AutogradError);
}

TEST_CASE("[hook-35] an empty list of inputs is refused") {
  const Tensor x = leaf({1});
  CHECK_THROWS_WITH_AS(backward({x * 2.0}, {}, {.inputs = Tensors{}}),
                       doctest::Contains("list of inputs is empty"), AutogradError);
}

TEST_CASE("[hook-46] a gradient of another shape or type cannot be assigned") {
  const Tensor x = leaf({1, 2});
  CHECK_THROWS_WITH_AS(x.set_grad(Tensor::ones({3})), doctest::Contains("(2,)"), ShapeError);
  CHECK_THROWS_AS(x.set_grad(Tensor::ones({2}, DType::float64)), ShapeError);
  x.set_grad(Tensor::ones({2}));
  CHECK_EQ(values(x.grad()), Floats{1, 1});
}

TEST_CASE("[hook-49] anomaly mode names the operation whose backward made the first NaN") {
  const auto run = [] {
    const Tensor x = leaf({0});
    (sqrt(x) * 0.0).backward();  // 0 * 1/0 arises in the backward of sqrt
    return x.grad();
  };
  CHECK(std::isnan(run().item()));
  {
    AnomalyMode watch;
    CHECK_THROWS_WITH_AS(run(), doctest::Contains("sqrt: its backward gave a NaN for input 0 of shape (1,)"),
                         AutogradError);
    AnomalyMode off(false);
    CHECK_NOTHROW(run());
  }
  CHECK_NOTHROW(run());
}

TEST_CASE("[hook-52] passes within passes, two thousand deep, from a thread with a small stack") {
  struct Result {
    int deepest = 0;
    Tensor x = leaf({1});
  } result;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 1 << 20);
  pthread_t thread;
  REQUIRE_EQ(pthread_create(
                 &thread, &small,
                 [](void* argument) -> void* {
                   auto& to = *static_cast<Result*>(argument);
                   nested(to.x, 1, to.deepest).backward();
                   return nullptr;
                 },
                 &result),
             0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&small);
  CHECK_EQ(result.deepest, 2000);
  CHECK_EQ(values(result.x.grad()), Floats{1});
}

TEST_CASE("[hook-52] a pass deep inside runs under the modes of the first") {
  int packed = 0, levels = 0;
  SavedTensorHooks counting(
      [&](const Tensor& saved) {
        ++packed;
        return std::any(saved);
      },
      [](const std::any& kept) { return std::any_cast<Tensor>(kept); });
  std::function<Tensor(const Tensor&)> squares = [&](const Tensor& in) {
    return record("square", in.detach().clone(), {in}, {}, [&](const Backward& ctx) -> Tensors {
      GradMode recording(true);
      const Tensor inner = leaf({1});
      if (++levels < 100) (inner * inner * squares(inner)).backward();
      return {ctx.grad()};
    });
  };
  squares(leaf({1})).backward();
  CHECK_EQ(levels, 100);
  CHECK_EQ(packed, 4 * 99);  // two factors of each product
}

TEST_CASE("[hook-53] an error deep inside arrives through every level") {
  const Tensor x = leaf({1});
  std::function<Tensor(const Tensor&, int)> failing = [&](const Tensor& in, int depth) {
    return record("failing", in.detach().clone(), {in}, {}, [&, depth](const Backward& ctx) -> Tensors {
      if (depth == 100) throw std::runtime_error("level 100");
      GradMode recording(true);
      failing(leaf({1}), depth + 1).backward();
      return {ctx.grad()};
    });
  };
  CHECK_THROWS_WITH_AS(failing(x, 1).backward(), "level 100", std::runtime_error);
  CHECK(grad_enabled());
  (x * 2.0).backward();
  CHECK_EQ(values(x.grad()), Floats{2});
}

TEST_CASE("[hook-55] threads that share the middle of a graph get exact sums" *
          testing::not_on_model("several threads")) {
  const Tensor x = leaf({3}), shared = x * x;
  shared.retain_grad();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, device = default_device()] {
      const DefaultDevice here(device);
      const Tensor y = shared * 2.0;
      for (int k = 0; k < 25; ++k) y.backward({}, true);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(values(x.grad()), Floats{8 * 25 * 2 * 6});
  CHECK_EQ(values(shared.grad()), Floats{8 * 25 * 2});
}

TEST_CASE("hooks come and go in some threads while passes run in others" *
          testing::not_on_model("several threads")) {
  const Tensor x = leaf({3}), shared = x * x;
  std::atomic<int> fired{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      while (!done) {
        const ScopedHook on_leaf = x.register_hook([&](const Tensor&) -> std::optional<Tensor> {
          ++fired;
          return std::nullopt;
        });
        const ScopedHook on_node =
            shared.grad_fn()->register_hook([&](const Tensors&, const Tensors&) -> std::optional<Tensors> {
              ++fired;
              return std::nullopt;
            });
      }
    });
  std::vector<std::thread> passes;
  for (int i = 0; i < 2; ++i)
    passes.emplace_back([&, device = default_device()] {
      const DefaultDevice here(device);
      for (int k = 0; k < 200; ++k) shared.backward({}, true);
    });
  for (std::thread& thread : passes) thread.join();
  done = true;
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(values(x.grad()), Floats{2 * 200 * 6});
  fired = 0;
  shared.backward();
  CHECK_EQ(fired, 0);  // all of them are gone
}

TEST_CASE("[hook-59] tensor hooks, then node pre-hooks, whatever the order of registration") {
  std::vector<int> log;
  const TensorHook first = [&](const Tensor& gradient) -> std::optional<Tensor> {
    log.push_back(1);
    return gradient * 3.0;
  };
  const NodePreHook second = [&](const Tensors& gradients) -> std::optional<Tensors> {
    log.push_back(2);
    return Tensors{gradients[0] * 2.0};
  };
  const Tensor a = leaf({1}), b = a.clone();
  b.grad_fn()->register_prehook(second);
  b.register_hook(first);
  b.grad_fn()->register_prehook(second);
  const auto accumulator = b.grad_fn()->next_edges()[0].node;
  a.register_hook(first);
  accumulator->register_prehook(second);
  a.register_hook(first);
  b.retain_grad();
  const auto take = [&] { return std::exchange(log, {}); };

  b.backward({}, true);
  CHECK_EQ(take(), std::vector<int>{1, 2, 2, 1, 1, 2});
  CHECK_EQ(values(a.grad()), Floats{216});
  CHECK_EQ(values(b.grad()), Floats{3});
  CHECK_EQ(grad({b}, {a}, {}, {.retain_graph = true})[0].item(), 108);
  CHECK_EQ(take(), std::vector<int>{1, 2, 2, 1, 1});
  CHECK_EQ(grad({b}, {b}, {}, {.retain_graph = true})[0].item(), 3);
  CHECK_EQ(take(), std::vector<int>{1});
  // PyTorch gives 1 for b here, from before the hook; a captured gradient is always after the hooks.
  const Tensors both = grad({b}, {a, b}, {}, {.retain_graph = true});
  CHECK_EQ(both[0].item(), 108);
  CHECK_EQ(both[1].item(), 3);
}

TEST_CASE("[hook-105] a gradient with a graph makes no cycle") {
  std::weak_ptr<TensorImpl> x_impl, y_impl, gradient_impl;
  std::weak_ptr<Node> node;
  {
    const Tensor x = leaf({3}), y = x * x * x;
    y.retain_grad();
    y.backward({}, true, true);
    x_impl = x.impl();
    y_impl = y.impl();
    gradient_impl = x.grad().impl();
    node = x.grad().grad_fn();
    REQUIRE(x.grad().requires_grad());
    REQUIRE(y.grad().defined());
    CHECK_EQ(grad({x.grad()}, {x})[0].item(), 18);
  }
  CHECK(x_impl.expired());
  CHECK(y_impl.expired());
  CHECK(gradient_impl.expired());
  CHECK(node.expired());
}

TEST_CASE("[hook-105] hooks of a leaf outlive its last handle") {
  int fired = 0, accumulated = 0;
  Tensor y;
  {
    const Tensor x = leaf({3});
    x.register_hook([&](const Tensor&) -> std::optional<Tensor> {
      ++fired;
      return std::nullopt;
    });
    x.register_post_accumulate_grad_hook([&](Tensor& leaf) {
      ++accumulated;
      CHECK_EQ(values(leaf), Floats{3});
      CHECK_EQ(values(leaf.grad()), Floats{6});
    });
    y = x * x;
  }
  y.backward();
  CHECK_EQ(fired, 1);
  CHECK_EQ(accumulated, 1);
}
