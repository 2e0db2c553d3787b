// Views and in-place changes: histories of bases, views, siblings, and outputs made together. Expected values
// are PyTorch's.
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;

namespace {

using Floats = std::vector<float>;

Tensor leaf(std::initializer_list<float> values, const Shape& shape) {
  return Tensor::from<float>(values, shape).set_requires_grad();
}

Floats values(const Tensor& x) {
  return x.to_vector<float>();
}

struct Event {
  std::string name;
  Floats gradient;
  bool operator==(const Event&) const = default;
};

/// Notes what it saw and multiplies it.
TensorHook note(std::vector<Event>& log, std::string name, double factor) {
  return [&log, name, factor](const Tensor& gradient) -> std::optional<Tensor> {
    log.push_back({name, values(gradient)});
    return gradient * factor;
  };
}

}  // namespace

TEST_CASE("[hook-25] a changed view, backward through the base") {
  const Tensor x = leaf({1, 2, 3, 4}, {4}), base = x * 1.0;
  mul_(narrow(base, 0, 1, 2), Tensor::full({1}, 5));
  sum(base).backward();
  CHECK_EQ(values(x.grad()), Floats{1, 5, 5, 1});
}

TEST_CASE("[hook-26] a changed view, backward through a sibling") {
  const Tensor x = leaf({1, 2, 3, 4}, {4}), base = x * 1.0;
  const Tensor changed = narrow(base, 0, 1, 2), sibling = narrow(base, 0, 2, 2);
  mul_(changed, narrow(x, 0, 0, 2));
  sum(sibling * Tensor::from<float>({1, 10}, {2})).backward();
  CHECK_EQ(values(x.grad()), Floats{0, 3, 2, 10});
}

TEST_CASE("[hook-26] a changed view of a non-contiguous view") {
  const Tensor weights = Tensor::from<float>({1, 2, 3, 4}, {2, 2}), three = Tensor::full({1}, 3);
  SUBCASE("through the base") {
    const Tensor x = leaf({1, 2, 3, 4}, {2, 2}), base = x * 1.0;
    mul_(select(transpose(base, 0, 1), 0, 0), three);
    sum(base * weights).backward();
    CHECK_EQ(values(x.grad()), Floats{3, 2, 9, 4});
  }
  SUBCASE("through the view between") {
    const Tensor x = leaf({1, 2, 3, 4}, {2, 2}), base = x * 1.0, between = transpose(base, 0, 1);
    mul_(select(between, 0, 0), three);
    sum(between * weights).backward();
    CHECK_EQ(values(x.grad()), Floats{3, 3, 6, 4});
  }
}

TEST_CASE("[hook-27] a view gains history when its base is changed") {
  const Tensor x = leaf({1, 2, 3}, {3}), base = Tensor::zeros({4}), view = narrow(base, 0, 1, 3);
  CHECK_FALSE(view.requires_grad());
  narrow(base, 0, 0, 2).copy_(narrow(x, 0, 0, 2));
  CHECK(view.requires_grad());
  CHECK(base.requires_grad());
  sum(view * Tensor::from<float>({1, 2, 3}, {3})).backward();
  CHECK_EQ(values(x.grad()), Floats{0, 1, 0});
}

TEST_CASE("[hook-28] one of several views made together cannot be changed in place") {
  const std::vector<std::function<Tensors(const Tensor&)>> splits{
      [](const Tensor& x) { return split(x, 2); },
      [](const Tensor& x) { return chunk(x, 2); },
      [](const Tensor& x) { return unbind(x); },
  };
  for (const auto& pieces : splits) {
    const Tensor x = leaf({1, 2, 3, 4}, {4});
    const Tensor piece = pieces(x * 1.0)[0];
    CHECK_THROWS_WITH_AS(mul_(piece, Tensor::ones({})), doctest::Contains("one of several views made by"),
                         AutogradError);
    CHECK_NOTHROW(mul_(piece.clone(), Tensor::ones({})));
  }
}

TEST_CASE("[hook-31] detach_ is refused on a view") {
  const Tensor x = leaf({1, 2}, {2}), base = x * 1.0;
  CHECK_THROWS_WITH_AS(narrow(base, 0, 0, 1).detach_(), doctest::Contains("detach()"), AutogradError);
  base.detach_();
  CHECK(base.is_leaf());
  CHECK_FALSE(base.requires_grad());
}

TEST_CASE("pieces of a tensor: sizes, values, wrong requests") {
  const Tensor x = Tensor::arange(10, DType::float32);
  const auto sizes = [](const Tensors& parts) {
    std::vector<std::int64_t> result;
    for (const Tensor& part : parts) result.push_back(part.numel());
    return result;
  };
  CHECK_EQ(sizes(split(x, 4)), std::vector<std::int64_t>{4, 4, 2});
  CHECK_EQ(sizes(chunk(x, 4)), std::vector<std::int64_t>{3, 3, 3, 1});
  CHECK_EQ(sizes(chunk(x, 6)), std::vector<std::int64_t>{2, 2, 2, 2, 2});  // fewer than asked, as in PyTorch
  CHECK_EQ(sizes(split(narrow(x, 0, 0, 0), 3)), std::vector<std::int64_t>{0});
  CHECK_EQ(values(split(x, 4)[2]), Floats{8, 9});
  const Tensors columns = unbind(reshape(x, {2, 5}), -1);
  CHECK_EQ(columns.size(), 5);
  CHECK_EQ(values(columns[3]), Floats{3, 8});
  CHECK_THROWS_AS(split(x, 0), ShapeError);
  CHECK_THROWS_AS(chunk(x, -1), ShapeError);
  CHECK_THROWS_AS(unbind(x, 1), ShapeError);
}

TEST_CASE("[hook-40] two outputs of one node are captured") {
  const Tensor x = leaf({1, 2}, {2});
  const Tensors parts = unbind(x * 1.0);
  const Tensors gradients = grad({parts[0] * 3.0 + parts[1] * 4.0}, {parts[0], parts[1]});
  CHECK_EQ(gradients[0].item(), 3);
  CHECK_EQ(gradients[1].item(), 4);
}

TEST_CASE("[hook-41] one of five pieces used: zeros elsewhere") {
  const Tensor x = leaf({1, 2, 3, 4, 5}, {5});
  (chunk(x, 5)[3] * 7.0).backward();
  CHECK_EQ(values(x.grad()), Floats{0, 0, 0, 7, 0});
}

TEST_CASE("[hook-61] the hook of an unused output gets nothing, and may not make something of it") {
  const Tensor x = leaf({1, 2}, {2});
  const Tensors parts = unbind(x * 1.0);
  int unused = 0, used = 0;
  parts[0].register_hook([&](const Tensor& gradient) -> std::optional<Tensor> {
    unused += !gradient.defined();
    return std::nullopt;
  });
  parts[1].register_hook([&](const Tensor& gradient) -> std::optional<Tensor> {
    used += gradient.defined();
    return std::nullopt;
  });
  parts[1].backward({}, true);
  CHECK_EQ(unused, 1);
  CHECK_EQ(used, 1);
  parts[0].register_hook([](const Tensor&) { return std::optional(Tensor::scalar(1)); }, "inventor");
  CHECK_THROWS_WITH_AS(parts[1].backward(), doctest::Contains("inventor"), AutogradError);
}

TEST_CASE("[hook-64] hooks before and after an in-place change, on a node of several outputs") {
  // Two outputs that are no views: the node records copies.
  const Tensor x = leaf({1, 1, 1, 1}, {2, 2});
  const Tensors rows = record("rows", {select(x.detach(), 0, 0).clone(), select(x.detach(), 0, 1).clone()},
                              {x}, {}, [](const Backward& ctx) -> Tensors {
                                return {stack({ctx.grad(0), ctx.grad(1)})};
                              });
  std::vector<Event> log;
  rows[0].register_hook(note(log, "a before", 2));
  mul_(rows[0], Tensor::full({1}, 2));
  rows[0].register_hook(note(log, "a after", 1));
  rows[1].register_hook(note(log, "b before", 1));
  mul_(rows[1], Tensor::full({1}, 3));
  (sum(rows[0]) + sum(rows[1])).backward();
  CHECK(log == std::vector<Event>{{"a after", {1, 1}}, {"a before", {2, 2}}, {"b before", {3, 3}}});
  CHECK_EQ(values(x.grad()), Floats{4, 4, 3, 3});
}

TEST_CASE("[hook-65] the hooks of a view do not fire for what it was before an in-place change") {
  const auto run = [](bool change_base, bool through_base) {
    const Tensor x = leaf({1, 1, 1, 1}, {4}), base = x * 1.0, view = narrow(base, 0, 0, 2);
    std::vector<Event> log;
    view.register_hook(note(log, "before", 2));
    mul_(change_base ? base : view, Tensor::full({1}, 2));
    view.register_hook(note(log, "after", 1));
    sum(through_base ? base : view).backward();
    return std::pair(log, values(x.grad()));
  };
  CHECK(run(false, true).first.empty());
  const std::pair expected(std::vector<Event>{{"after", {1, 1}}}, Floats{2, 2, 0, 0});
  CHECK(run(false, false) == expected);
  CHECK(run(true, false) == expected);
}

TEST_CASE("[hook-70] a hook on an output that is passed through sees only that output's uses") {
  const Tensor x = leaf({3}, {1});
  const Tensor passed =
      record("pass", x.detach(), {x}, {}, [](const Backward& ctx) -> Tensors { return {ctx.grad()}; });
  std::vector<Event> log;
  passed.register_hook(note(log, "passed", 1));
  (passed * 2.0 + x * 5.0).backward();
  CHECK(log == std::vector<Event>{{"passed", {2}}});
  CHECK_EQ(values(x.grad()), Floats{7});
}
