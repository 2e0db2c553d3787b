// The graph: accumulation, reuse, partial backward, versions, modes. Numbers in brackets refer to the
// conformance list of hooks and autograd behaviour, whose oracle is PyTorch.
#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"
#include "support/device.h"

using namespace grapnel;

namespace {

Tensor leaf(std::initializer_list<float> values) {
  return Tensor::from<float>(values, {static_cast<std::int64_t>(values.size())}).set_requires_grad();
}

std::vector<float> values(const Tensor& x) {
  return x.to_vector<float>();
}

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("[hook-1] gradients accumulate over passes in the same tensor") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x + 2.0;
  y.backward(Tensor::ones({2}), true);
  const Tensor first = x.grad();
  y.backward(Tensor::ones({2}));
  CHECK_EQ(values(x.grad()), Floats{2, 2});
  CHECK(x.grad().is_same(first));
}

TEST_CASE("[hook-2] with create_graph an earlier gradient handle keeps its value") {
  const Tensor x = leaf({3});
  sum(x * x).backward({}, true, true);
  const Tensor first = x.grad();
  sum(x * x).backward({}, true, true);
  CHECK_EQ(values(first), Floats{6});
  CHECK_EQ(values(x.grad()), Floats{12});
  x.set_grad({});  // a gradient with a history refers to its leaf
}

TEST_CASE("[hook-3] a preset gradient keeps its identity") {
  const Tensor x = leaf({1, 2}), preset = Tensor::ones({2});
  x.set_grad(preset);
  sum(x * 3.0).backward();
  CHECK_EQ(values(preset), Floats{4, 4});
}

TEST_CASE("[hook-4] [hook-5] one gradient in several places is never shared or changed") {
  const Tensor a = leaf({1}), b = leaf({2}), c = leaf({3});
  const Tensor seed = Tensor::ones({1});
  (a + b + c).backward(seed);
  a.grad().fill_(9);
  CHECK_EQ(values(b.grad()), Floats{1});
  CHECK_EQ(values(c.grad()), Floats{1});
  CHECK_EQ(values(seed), Floats{1});
  const Tensor again = leaf({1});
  (again + again).backward(seed);
  CHECK_EQ(values(again.grad()), Floats{2});
  CHECK_EQ(values(seed), Floats{1});
}

TEST_CASE("[hook-6] [hook-7] [hook-8] several roots, repeated roots, diamonds") {
  const Tensor x = leaf({2});
  const Tensor y = x * x, z = y * 3.0;
  backward({y, z});
  CHECK_EQ(values(x.grad()), Floats{16});
  const Tensor u = leaf({2}), v = u * u;
  backward({v, v});
  CHECK_EQ(values(u.grad()), Floats{8});
  const Tensor w = leaf({3}), left = w * 2.0, right = w * w;
  (left * right).backward();
  CHECK_EQ(values(w.grad()), Floats{54});
}

TEST_CASE("[hook-9] [hook-10] [hook-11] wrong requests are refused with the reason") {
  const Tensor x = leaf({1, 2}), plain = Tensor::ones({2});
  CHECK_THROWS_WITH_AS((x * 2.0).backward(), doctest::Contains("shape (2,); give its gradient"),
                       AutogradError);
  CHECK_NOTHROW(sum(x * 2.0).backward());
  CHECK_NOTHROW((leaf({5}) * 2.0).backward());
  CHECK_THROWS_WITH_AS((x * 2.0).backward(Tensor::ones({3})),
                       doctest::Contains("shape (3,), the output (2,)"), ShapeError);
  CHECK_THROWS_WITH_AS(plain.backward(Tensor::ones({2})), doctest::Contains("does not require a gradient"),
                       AutogradError);
}

TEST_CASE("[hook-12] [hook-13] [hook-14] [hook-15] saved tensors live for one pass") {
  const Tensor x = leaf({3});
  const Tensor y = x * x;
  y.backward();
  CHECK_THROWS_WITH_AS(y.backward(), doctest::Contains("retain_graph"), AutogradError);
  const Tensor z = x + 1.0;
  z.backward();
  CHECK_NOTHROW(z.backward());
  const Tensor w = x * x;
  w.backward({}, true);
  CHECK_NOTHROW(w.backward());
  CHECK_EQ(values(x.grad()), Floats{6 + 1 + 1 + 6 + 6});
}

TEST_CASE("[hook-16] [hook-17] [hook-18] a changed saved tensor is detected through its version") {
  const Tensor x = leaf({2}), y = leaf({3});
  const Tensor z = x * y;
  const Tensor w = z * y, v = z + y;
  add_(z, Tensor::ones({1}));
  CHECK_THROWS_WITH_AS(
      w.backward(),
      doctest::Contains("mul: a saved tensor of type float32 and shape (1,) was changed in place; "
                        "it is at version 1, expected version 0"),
      AutogradError);
  CHECK_NOTHROW(v.backward());
  const Tensor a = x * 1.0, b = a * y;
  {
    NoGrad guard;
    a.fill_(0);
  }
  CHECK_THROWS_AS(b.backward(), AutogradError);
  const Tensor c = x * 1.0, d = c * y;
  c.detach().zero_();
  CHECK_THROWS_AS(d.backward(), AutogradError);
}

TEST_CASE("[hook-19] [hook-20] [hook-21] versions are shared by views, constants save nothing") {
  const Tensor x = leaf({1, 2, 3});
  const Tensor y = x * 2.0;
  narrow(y, 0, 0, 1).fill_(5);
  CHECK_EQ(y.version(), 1);
  const Tensor factor = Tensor::full({3}, 2);
  const Tensor z = x * factor, base = x * 1.0, product = base * factor;
  base.detach().fill_(0);  // product needs only the factor
  CHECK_NOTHROW(product.backward(Tensor::ones({3})));
  factor.fill_(1);
  CHECK_THROWS_AS(z.backward(Tensor::ones({3})), AutogradError);
}

TEST_CASE("[hook-22] [hook-23] [hook-24] leaves are guarded against in-place changes") {
  const Tensor x = leaf({1, 2});
  CHECK_THROWS_WITH_AS(add_(x, Tensor::ones({2})), doctest::Contains("a leaf of shape (2,)"), AutogradError);
  CHECK_THROWS_WITH_AS(relu_(narrow(x, 0, 0, 1)), doctest::Contains("a view of a leaf"), AutogradError);
  {
    NoGrad guard;
    CHECK_NOTHROW(add_(x, Tensor::ones({2})));
  }
  CHECK_EQ(values(x), Floats{2, 3});
  const Tensor sum_so_far = Tensor::zeros({2});
  add_(sum_so_far, x);
  CHECK(sum_so_far.requires_grad());
  sum(sum_so_far).backward();
  CHECK_EQ(values(x.grad()), Floats{1, 1});
  CHECK_THROWS_WITH_AS(add_(expand(Tensor::ones({1}), {3}), Tensor::ones({3})),
                       doctest::Contains("share one place"), AutogradError);
}

TEST_CASE("[hook-29] a view made under NoGrad may not be changed while recording") {
  const Tensor x = leaf({1, 2}) * 1.0;
  Tensor view;
  {
    NoGrad guard;
    view = narrow(x, 0, 0, 1);
  }
  add_(narrow(x, 0, 1, 1), Tensor::ones({1}));
  CHECK_THROWS_WITH_AS(add_(view, Tensor::ones({1})), doctest::Contains("made under NoGrad"), AutogradError);
  CHECK_THROWS_AS(view.fill_(1), AutogradError);
}

TEST_CASE("[hook-30] [hook-31] [hook-32] [hook-33] modes, detach and requires_grad") {
  const Tensor x = leaf({1});
  {
    NoGrad outer;
    { NoGrad inner; }
    CHECK_FALSE((x * 2.0).requires_grad());
    GradMode on(true);
    CHECK((x * 2.0).requires_grad());
  }
  CHECK((x * 2.0).requires_grad());
  CHECK_FALSE((x * 2.0).detach().requires_grad());
  CHECK_THROWS_WITH_AS((x * 2.0).set_requires_grad(false), doctest::Contains("use detach()"), AutogradError);
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}, DType::int64).set_requires_grad(), doctest::Contains("int64"),
                       TypeError);
  CHECK_FALSE(argmax(leaf({1, 3, 2}), 0).requires_grad());
}

TEST_CASE("[hook-35] [hook-36] backward into chosen inputs only") {
  const Tensor x = leaf({2}), y = leaf({3});
  const Tensor middle = x * y;
  backward({middle * middle}, {}, {.retain_graph = true, .inputs = Tensors{x}});
  CHECK_EQ(values(x.grad()), Floats{36});
  CHECK_FALSE(y.grad().defined());
  backward({middle * middle}, {}, {.inputs = Tensors{middle}});
  CHECK_EQ(values(middle.grad()), Floats{12});
  CHECK_EQ(values(x.grad()), Floats{36});
}

TEST_CASE("[hook-37] [hook-38] [hook-39] grad touches no field and runs only what leads to its inputs") {
  const Tensor x = leaf({2}), y = leaf({3});
  int runs = 0;
  const Tensor aside = record("aside", y.detach() * 1.0, {y}, {}, [&runs](const Backward& ctx) -> Tensors {
    ++runs;
    return {ctx.grad()};
  });
  const Tensor z = x * aside;
  CHECK_EQ(values(grad({z}, {x}, {}, {.retain_graph = true})[0]), Floats{3});
  CHECK_EQ(runs, 0);
  CHECK_FALSE(x.grad().defined());
  CHECK_EQ(values(grad({z}, {y}, {}, {.retain_graph = true})[0]), Floats{2});
  CHECK_EQ(runs, 1);
  const Tensor unrelated = leaf({1});
  CHECK_THROWS_WITH_AS(grad({z}, {unrelated}, {}, {.retain_graph = true}),
                       doctest::Contains("do not depend on input 0"), AutogradError);
  CHECK_FALSE(grad({z}, {unrelated}, {}, {.allow_unused = true})[0].defined());
}

TEST_CASE("[hook-43] [hook-44] [hook-45] a gradient fits what it belongs to") {
  const Tensor x = leaf({1, 2});
  const auto with_gradient = [&x](const Shape& shape) {
    return record("custom", x.detach() * 1.0, {x}, {},
                  [shape](const Backward&) -> Tensors { return {Tensor::ones(shape)}; });
  };
  with_gradient({3, 2}).backward(Tensor::ones({2}));
  CHECK_EQ(values(x.grad()), Floats{3, 3});
  CHECK_THROWS_WITH_AS(with_gradient({5}).backward(Tensor::ones({2})),
                       doctest::Contains("custom: its backward gave a gradient of "
                                         "shape (5,) for input 0, expected shape (2,)"),
                       ShapeError);
  const Tensor picture =
      Tensor::ones({1, 3, 2, 2}).contiguous(MemoryFormat::channels_last).detach().set_requires_grad();
  sum(picture * Tensor::ones({1, 3, 2, 2})).backward();
  CHECK_EQ(picture.grad().strides(), picture.strides());
  CHECK_THROWS_AS(picture.set_grad(Tensor::ones({3})), ShapeError);
}

TEST_CASE("[hook-45] a gradient has the type of what it belongs to" * testing::on_cpu_only("float64")) {
  const Tensor x = leaf({1, 2});
  sum(x.to(DType::float64) * Tensor::full({2}, 3, DType::float64)).backward();
  CHECK_EQ(x.grad().dtype(), DType::float32);
  CHECK_EQ(values(x.grad()), Floats{3, 3});
}

TEST_CASE("[hook-42] broadcasting against nothing") {
  const Tensor x = leaf({1});
  const Tensor none = Tensor::zeros({0, 1});
  sum(x * none).backward();
  CHECK_EQ(values(x.grad()), Floats{0});
}

TEST_CASE("[hook-47] a Hessian-vector product by double backward") {
  // f = x^3 y: H v with v = (1, 2) at (2, 5): [6xy v0 + 3x^2 v1, 3x^2 v0]
  const Tensor x = leaf({2}), y = leaf({5});
  const Tensors first = grad({pow(x, 3) * y}, {x, y}, {}, {.create_graph = true});
  const Tensors product = grad({first[0] + first[1] * 2.0}, {x, y});
  CHECK_EQ(values(product[0]), Floats{60 + 24});
  CHECK_EQ(values(product[1]), Floats{12});
}

TEST_CASE("[hook-50] [hook-51] a chain of a million nodes neither recurses nor overflows" *
          testing::not_on_model("a million kernels")) {
  const Tensor x = leaf({1});
  {
    Tensor abandoned = x;
    for (int i = 0; i < 1'000'000; ++i) abandoned = abandoned + 0.0;
  }
  Tensor y = x;
  for (int i = 0; i < 1'000'000; ++i) y = y + 0.0;
  y.backward();
  CHECK_EQ(values(x.grad()), Floats{1});
}

TEST_CASE("[hook-54] threads with graphs of their own and with a shared leaf" *
          testing::not_on_model("several threads")) {
  const Tensor shared = leaf({1});
  std::vector<std::thread> threads;
  std::vector<float> own(10);
  for (int t = 0; t < 10; ++t)
    threads.emplace_back([&, t, device = default_device()] {
      const DefaultDevice here(device);
      const Tensor mine = leaf({static_cast<float>(t)});
      (mine * mine + shared * 3.0).backward();
      own[static_cast<std::size_t>(t)] = values(mine.grad())[0];
    });
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < 10; ++t) CHECK_EQ(own[static_cast<std::size_t>(t)], 2.0f * static_cast<float>(t));
  CHECK_EQ(values(shared.grad()), Floats{30});
}

TEST_CASE("[hook-53] an error in a backward leaves the engine and the grad mode usable") {
  const Tensor x = leaf({1});
  const Tensor bad =
      record("bad", x.detach() * 1.0, {x}, {}, [](const Backward&) -> Tensors { throw Error("on purpose"); });
  CHECK_THROWS_WITH_AS(bad.backward(), "on purpose", Error);
  CHECK(grad_enabled());
  CHECK_NOTHROW((x * 2.0).backward());
  CHECK_EQ(values(x.grad()), Floats{2});
}

TEST_CASE("[hook-56] inference mode") {
  Tensor made;
  {
    InferenceMode mode;
    made = Tensor::ones({1}) * 2.0;
    CHECK(InferenceMode::enabled());
    CHECK_FALSE(grad_enabled());
  }
  CHECK_THROWS_WITH_AS(leaf({3}) * made, doctest::Contains("inference mode cannot be saved"), AutogradError);
  CHECK_NOTHROW(leaf({3}) + made);
}

TEST_CASE("[hook-108] the classic: a = x + w, b = w + 1, y = a b at x = 2, w = 1") {
  const Tensor x = leaf({2}), w = leaf({1});
  float seen = 0;
  bool doubled = false;
  const auto run = [&] {
    const Tensor a = x + w, b = w + 1.0;
    a.register_hook([&](const Tensor& gradient) -> std::optional<Tensor> {
      seen = values(gradient)[0];
      if (!doubled) return std::nullopt;
      return gradient * 2.0;
    });
    (a * b).backward();
    CHECK_FALSE(a.grad().defined());  // only leaves keep theirs
    CHECK_FALSE(b.grad().defined());
  };
  run();
  CHECK_EQ(seen, 2.0f);
  CHECK_EQ(values(x.grad()), Floats{2});
  CHECK_EQ(values(w.grad()), Floats{5});
  doubled = true;
  x.set_grad({});
  w.set_grad({});
  run();
  CHECK_EQ(values(x.grad()), Floats{4});
  CHECK_EQ(values(w.grad()), Floats{7});
}

TEST_CASE("a graph is freed with its last handle: nothing refers to itself") {
  std::weak_ptr<Node> node;
  {
    const Tensor x = leaf({1, 2});
    const Tensor y = exp(sqrt(relu(x)));  // each saves its own output
    node = y.grad_fn();
    sum(y).backward({}, true, true);  // the gradient's graph refers to y
    CHECK_FALSE(node.expired());
    x.set_grad({});
  }
  CHECK(node.expired());
}

TEST_CASE("a leaf takes other data, of the same shape and type, and nothing else does") {
  const Tensor leaf = Tensor::from<float>({1, 2, 3, 4}, {2, 2}).set_requires_grad();
  const Tensor former = leaf.detach(), other = Tensor::from<float>({5, 6, 7, 8}, {2, 2});
  leaf.set_data(transpose(other, 0, 1));
  CHECK(leaf.to_vector<float>() == std::vector<float>{5, 7, 6, 8});
  CHECK(former.to_vector<float>() == std::vector<float>{1, 2, 3, 4});
  other.fill_(9);
  CHECK(leaf.to_vector<float>() == std::vector<float>(4, 9.0f));
  CHECK(leaf.requires_grad());
  sum(leaf * leaf).backward();
  CHECK(leaf.grad().to_vector<float>() == std::vector<float>(4, 18.0f));

  CHECK_THROWS_WITH_AS(leaf.set_data(Tensor::ones({4})),
                       "set_data: a tensor of shape (2, 2) cannot take the data of one of shape (4,)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(leaf.set_data(other.to(DType::float64)),
                       "set_data: a tensor of type float32 cannot take the data of one of type float64",
                       TypeError);
  CHECK_THROWS_WITH_AS(
      (leaf * 2).set_data(other),
      "set_data: only a leaf can take other data, and this is the result of an operation; use "
      "copy_, or detach it first",
      AutogradError);
  CHECK_THROWS_WITH_AS(
      select(other, 0, 0).set_data(Tensor::ones({2})),
      "set_data: only a leaf can take other data, and this is a view; use copy_, or detach it first",
      AutogradError);
}
