// Hooks on tensors and nodes: order, replacement, removal. Numbers refer to the conformance list.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;

namespace {

Tensor leaf(float value) {
  return Tensor::full({1}, value).set_requires_grad();
}
float only(const Tensor& x) {
  return x.to_vector<float>().at(0);
}

}  // namespace

TEST_CASE("[hook-57] hooks count +1 and +2, after removing the first only +2") {
  const Tensor x = leaf(1);
  int counter = 0;
  const Tensor y = x * 2.0;
  HookHandle one = y.register_hook([&](const Tensor&) -> std::optional<Tensor> {
    counter += 1;
    return {};
  });
  y.backward({}, true);
  CHECK_EQ(counter, 1);
  y.register_hook([&](const Tensor&) -> std::optional<Tensor> {
    counter += 2;
    return {};
  });
  y.backward({}, true);
  CHECK_EQ(counter, 4);
  one.remove();
  one.remove();
  CHECK_FALSE(one.active());
  counter = 3;
  y.backward({}, true);
  CHECK_EQ(counter, 5);
}

TEST_CASE("[hook-58] [better-7] replacements count, also for captured gradients") {
  const Tensor x = leaf(3);
  x.register_hook([](const Tensor& g) -> std::optional<Tensor> { return g * 10.0; });
  const Tensor y = x * 2.0;
  y.register_hook([](const Tensor& g) -> std::optional<Tensor> { return g + 1.0; });
  y.register_hook([](const Tensor& g) -> std::optional<Tensor> { return g * 5.0; });  // sees the sum
  y.backward({}, true);
  CHECK_EQ(only(x.grad()), 200.0f);
  const Tensors captured = grad({y}, {x, y});
  CHECK_EQ(only(captured[0]), 200.0f);
  CHECK_EQ(only(captured[1]), 10.0f);
}

TEST_CASE("[hook-60] no gradient, no hook: the message says why") {
  const auto hook = [](const Tensor&) -> std::optional<Tensor> { return {}; };
  CHECK_THROWS_WITH_AS(Tensor::ones({1}).register_hook(hook), doctest::Contains("set_requires_grad()"),
                       AutogradError);
  CHECK_THROWS_WITH_AS(Tensor::zeros({1}, DType::int64).register_hook(hook),
                       doctest::Contains("int64 has no gradients"), AutogradError);
  {
    NoGrad guard;
    CHECK_THROWS_WITH_AS((leaf(1) * 2.0).register_hook(hook), doctest::Contains("NoGrad"), AutogradError);
  }
  Tensor made;
  {
    InferenceMode mode;
    made = Tensor::ones({1});
  }
  CHECK_THROWS_WITH_AS(made.register_hook(hook), doctest::Contains("inference mode"), AutogradError);
}

TEST_CASE("[hook-62] a replacement of another shape or type is refused by the hook's name") {
  const Tensor x = leaf(1);
  const Tensor y = x * 2.0;
  ScopedHook grow(
      y.register_hook([](const Tensor&) -> std::optional<Tensor> { return Tensor::ones({2}); }, "grow"));
  CHECK_THROWS_WITH_AS(
      y.backward({}, true),
      doctest::Contains("tensor hook \"grow\" of affine: it changed the gradient's shape from (1,) to (2,)"),
      ShapeError);
  grow = ScopedHook(y.register_hook(
      [](const Tensor& g) -> std::optional<Tensor> { return g.to(DType::float64); }, "widen"));
  CHECK_THROWS_WITH_AS(y.backward({}, true), doctest::Contains("type from float32 to float64"), TypeError);
  grow = ScopedHook(y.register_hook([](const Tensor&) -> std::optional<Tensor> { return Tensor(); }));
  CHECK_THROWS_WITH_AS(y.backward({}, true), doctest::Contains("return std::nullopt"), AutogradError);
  grow = ScopedHook();
  CHECK_NOTHROW(y.backward());
}

TEST_CASE("[hook-63] a hook belongs to the value it was registered on, before or after an in-place change") {
  const Tensor x = leaf(1);
  const Tensor y = x * 1.0;
  std::vector<float> seen(2);
  y.register_hook([&](const Tensor& g) -> std::optional<Tensor> {
    seen[0] = only(g);
    return {};
  });
  mul_(y, Tensor::full({1}, 2));
  y.register_hook([&](const Tensor& g) -> std::optional<Tensor> {
    seen[1] = only(g);
    return g * 2.0;
  });
  y.backward();
  CHECK_EQ(seen[1], 1.0f);
  CHECK_EQ(seen[0], 4.0f);
}

TEST_CASE("[hook-66] what fires for grad of one, of both, and for backward") {
  int tensor_hooks = 0, pre = 0, post = 0;
  const auto make = [&] {
    const Tensor a = leaf(1);
    const Tensor b = a * 2.0, c = b * 3.0;
    b.register_hook([&](const Tensor&) -> std::optional<Tensor> {
      ++tensor_hooks;
      return {};
    });
    a.register_hook([&](const Tensor&) -> std::optional<Tensor> {
      ++tensor_hooks;
      return {};
    });
    b.grad_fn()->register_prehook([&](const Tensors&) -> std::optional<Tensors> {
      ++pre;
      return {};
    });
    b.grad_fn()->register_hook([&](const Tensors&, const Tensors&) -> std::optional<Tensors> {
      ++post;
      return {};
    });
    tensor_hooks = pre = post = 0;
    return std::vector<Tensor>{a, b, c};
  };
  auto t = make();
  grad({t[2]}, {t[1]});
  CHECK_EQ(std::vector<int>{tensor_hooks, pre, post}, std::vector<int>{1, 0, 0});
  t = make();
  grad({t[2]}, {t[0], t[1]});
  CHECK_EQ(std::vector<int>{tensor_hooks, pre, post}, std::vector<int>{2, 1, 1});
  t = make();
  t[2].backward();
  CHECK_EQ(std::vector<int>{tensor_hooks, pre, post}, std::vector<int>{2, 1, 1});
}

TEST_CASE("[hook-67] backward into one leaf leaves the other's hooks silent") {
  const Tensor a = leaf(1), b = leaf(2);
  int fired = 0;
  a.register_hook([&](const Tensor&) -> std::optional<Tensor> {
    ++fired;
    return {};
  });
  backward({a * b}, {}, {.inputs = Tensors{b}});
  CHECK_EQ(fired, 0);
  CHECK_EQ(only(b.grad()), 1.0f);
  CHECK_FALSE(a.grad().defined());
}

TEST_CASE("[hook-68] [hook-69] a hook that removes itself, and one that runs its own backward") {
  const Tensor x = leaf(2);
  const Tensor y = x * 3.0;
  HookHandle handle;
  handle = y.register_hook([&](const Tensor& g) -> std::optional<Tensor> {
    handle.remove();
    return g * 10.0;
  });
  float inner = 0;
  y.register_hook([&](const Tensor&) -> std::optional<Tensor> {
    GradMode on(true);
    const Tensor z = leaf(5);
    (z * z).backward();
    inner = only(z.grad());
    return {};
  });
  y.backward({}, true);
  CHECK_EQ(only(x.grad()), 30.0f);
  y.backward();
  CHECK_EQ(only(x.grad()), 33.0f);
  CHECK_EQ(inner, 10.0f);
}

TEST_CASE("[hook-71] a hook lives as long as the graph") {
  auto token = std::make_shared<int>(0);
  {
    const Tensor x = leaf(1);
    Tensor y = x * 2.0;
    y.register_hook([token](const Tensor&) -> std::optional<Tensor> { return {}; });
    CHECK_EQ(token.use_count(), 2);
    const Tensor z = y * 3.0;
    y = Tensor();
    CHECK_EQ(token.use_count(), 2);
    z.backward();
  }
  CHECK_EQ(token.use_count(), 1);
}

TEST_CASE("[hook-72] [hook-73] [hook-74] [hook-75] retain_grad") {
  const Tensor x = leaf(3);
  Tensor y = x * 2.0;
  y.retain_grad();
  y.retain_grad();
  y.register_hook([](const Tensor& g) -> std::optional<Tensor> { return g * 7.0; });
  CHECK(y.retains_grad());
  const Tensor z = y * 5.0;
  z.backward({}, true);
  CHECK_EQ(only(y.grad()), 35.0f);
  z.backward({}, true);
  CHECK_EQ(only(y.grad()), 70.0f);

  const Tensor changed = x * 1.0;
  changed.retain_grad();
  mul_(changed, Tensor::full({1}, 4));
  (changed * 2.0).backward();
  CHECK_EQ(only(changed.grad()), 2.0f);  // of the value after the change

  const std::weak_ptr<TensorImpl> alive = y.impl();
  y = Tensor();
  CHECK(alive.expired());
  CHECK_NOTHROW(z.backward());
  x.retain_grad();
  CHECK_FALSE(x.retains_grad());
}

TEST_CASE("[hook-76] [hook-77] post-accumulate hooks: an optimiser inside the backward pass") {
  const Tensor w = leaf(4);
  w.register_post_accumulate_grad_hook([](Tensor& p) {
    NoGrad guard;
    add_(p, p.grad() * -0.5);
    p.set_grad({});
  });
  (w * w).backward();
  CHECK_EQ(only(w), 0.0f);
  CHECK_FALSE(w.grad().defined());
  CHECK_THROWS_WITH_AS((w * 2.0).register_post_accumulate_grad_hook([](Tensor&) {}),
                       doctest::Contains("use register_hook"), AutogradError);
}

TEST_CASE("[hook-78] [hook-79] [hook-80] node hooks") {
  const Tensor x = leaf(1);
  const Tensor y = x * 2.0;
  const auto node = y.grad_fn();
  HookHandle last;
  float into = 0, out = 0;
  const auto doubling = [](const Tensors& g) -> std::optional<Tensors> { return Tensors{g[0] * 2.0}; };
  node->register_prehook(doubling);
  node->register_prehook(doubling);
  node->register_prehook(doubling);
  node->register_prehook([&](const Tensors&) -> std::optional<Tensors> {
    last.remove();
    return {};
  });
  last = node->register_prehook(
      [](const Tensors&) -> std::optional<Tensors> { return Tensors{Tensor::zeros({1})}; });
  node->register_hook([&](const Tensors& results, const Tensors& gradients) -> std::optional<Tensors> {
    into = only(gradients[0]);
    out = only(results[0]);
    return {};
  });
  y.backward({}, true);
  CHECK_EQ(into, 8.0f);
  CHECK_EQ(out, 16.0f);
  node->register_prehook([](const Tensors&) -> std::optional<Tensors> { return Tensors{}; });
  CHECK_THROWS_WITH_AS(y.backward(), doctest::Contains("returned 0 gradients, expected 1"), AutogradError);
}

TEST_CASE("hooks at one node fire in the numbered order") {
  const Tensor x = leaf(1);
  const Tensor y = x * 2.0;
  std::string order;
  const auto note = [&order](const char* what) { order += std::string(order.empty() ? "" : " ") + what; };
  y.retain_grad();
  y.grad_fn()->register_hook([&](const Tensors&, const Tensors&) -> std::optional<Tensors> {
    note("node-post");
    return {};
  });
  y.grad_fn()->register_prehook([&](const Tensors&) -> std::optional<Tensors> {
    note(y.grad().defined() ? "retained node-pre" : "node-pre");
    return {};
  });
  y.register_hook([&](const Tensor&) -> std::optional<Tensor> {
    note("tensor");
    return {};
  });
  x.register_post_accumulate_grad_hook([&](Tensor&) { note("leaf-post"); });
  x.register_hook([&](const Tensor&) -> std::optional<Tensor> {
    note("leaf");
    return {};
  });
  y.backward();
  CHECK_EQ(order, "tensor retained node-pre node-post leaf leaf-post");
}

TEST_CASE("a scoped hook removes itself, a list can be enumerated and cleared") {
  const Tensor x = leaf(1);
  const Tensor y = x * 2.0;
  int fired = 0;
  {
    ScopedHook scoped(y.register_hook(
        [&](const Tensor&) -> std::optional<Tensor> {
          ++fired;
          return {};
        },
        "scoped"));
    CHECK_EQ(y.grad_fn()->hooks().outputs[0].hooks.names(), std::vector<std::string>{"scoped"});
    y.backward({}, true);
  }
  y.backward({}, true);
  CHECK_EQ(fired, 1);
  HookHandle handle = y.register_hook([&](const Tensor&) -> std::optional<Tensor> {
    ++fired;
    return {};
  });
  y.grad_fn()->hooks().outputs[0].hooks.clear();
  CHECK_FALSE(handle.active());
  y.backward();
  CHECK_EQ(fired, 1);
}
