// What is said to somebody who uses the graph wrongly: the operation, what came, what was expected, what to
// do.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/multi_grad_hook.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;

namespace {

Tensor leaf(const Shape& shape = {2}) {
  return Tensor::ones(shape).set_requires_grad();
}

struct WrongUse {
  const char* what;
  std::function<void()> use;
  std::vector<std::string> words;
};

TensorHook hook_returning(Tensor replacement) {
  return [replacement](const Tensor&) { return std::optional(replacement); };
}

/// Goes backward through y = 2x with `hook` on y.
void backward_with(const TensorHook& hook) {
  const Tensor y = leaf() * 2.0;
  y.register_hook(hook, "mine");
  y.backward(Tensor::ones({2}));
}

const std::vector<WrongUse>& wrong_uses() {
  static const std::vector<WrongUse> all{
      {"no gradient for several elements",
       [] { (leaf() * 2.0).backward(); },
       {"backward: output 0 has shape (2,)", "give its gradient, or reduce it to one element"}},
      {"a gradient of another shape",
       [] { (leaf() * 2.0).backward(Tensor::ones({3})); },
       {"backward: the gradient of output 0 has shape (3,), the output (2,)"}},
      {"a gradient of another type",
       [] { (leaf() * 2.0).backward(Tensor::ones({2}, DType::float64)); },
       {"backward", "float64", "float32"}},
      {"an output without history",
       [] { Tensor::ones({}).backward(); },
       {"backward: output 0 of shape () does not require a gradient and has no history"}},
      {"too many gradients",
       [] {
         backward({sum(leaf())}, {Tensor::ones({}), Tensor::ones({})});
       },
       {"backward: 2 gradients for 1 outputs"}},
      {"backward twice",
       [] {
         const Tensor x = leaf({}), y = x * x;
         y.backward();
         y.backward();
       },
       {"mul: its saved tensors are already freed", "retain_graph = true"}},
      {"a saved tensor changed in place",
       [] {
         const Tensor x = leaf({}), y = x * 1.0, z = y * y;
         add_(y, Tensor::ones({}));
         z.backward();
       },
       {"mul: a saved tensor of type float32 and shape () was changed in place", "version 1", "version 0",
        "clone"}},
      {"a leaf changed in place",
       [] { add_(leaf(), Tensor::ones({2})); },
       {"add_: a leaf of shape (2,)", "NoGrad", "clone"}},
      {"a view of a leaf changed in place",
       [] { narrow(leaf(), 0, 0, 1).fill_(0); },
       {"fill_: a view of a leaf of shape (2,)", "NoGrad"}},
      {"an expanded tensor changed in place",
       [] { expand(Tensor::ones({1}), {3}).fill_(0); },
       {"fill_: several elements of this tensor of shape (3,) share one place in memory", "clone"}},
      {"one of many views changed in place",
       [] { unbind(leaf() * 1.0)[0].fill_(0); },
       {"fill_: one of several views made by unbind", "clone", "narrow or select"}},
      {"a view made under NoGrad changed in place",
       [] {
         const Tensor base = leaf() * 1.0;
         Tensor view;
         {
           NoGrad guard;
           view = narrow(base, 0, 0, 1);
         }
         view.fill_(1);
       },
       {"fill_: a view made under NoGrad cannot be changed in place"}},
      {"requires_grad on integers",
       [] { Tensor::zeros({2}, DType::int64).set_requires_grad(); },
       {"set_requires_grad: only floating types have gradients, this tensor holds int64"}},
      {"requires_grad taken from a result",
       [] { (leaf() * 1.0).set_requires_grad(false); },
       {"set_requires_grad(false)", "detach()"}},
      {"detach_ on a view", [] { narrow(leaf() * 1.0, 0, 0, 1).detach_(); }, {"detach_: a view", "detach()"}},
      {"a hook without a gradient",
       [] { Tensor::ones({2}).register_hook(hook_returning({})); },
       {"register_hook: this tensor of shape (2,) has no gradient", "set_requires_grad()"}},
      {"a hook on a frozen result",
       [] {
         NoGrad guard;
         (leaf() * 1.0).register_hook(hook_returning({}));
       },
       {"register_hook", "NoGrad"}},
      {"a hook on integers",
       [] { Tensor::zeros({2}, DType::int64).register_hook(hook_returning({})); },
       {"register_hook", "int64 has no gradients"}},
      {"a post-accumulate hook on a result",
       [] { (leaf() * 1.0).register_post_accumulate_grad_hook([](Tensor&) {}); },
       {"register_post_accumulate_grad_hook: only a leaf", "use register_hook here"}},
      {"retain_grad without a gradient",
       [] { Tensor::ones({2}).retain_grad(); },
       {"retain_grad", "has no gradient"}},
      {"a hook that returns nothing",
       [] { backward_with(hook_returning({})); },
       {"\"mine\"", "affine", "replaced a gradient by nothing", "std::nullopt"}},
      {"a hook that changes the shape",
       [] { backward_with(hook_returning(Tensor::ones({3}))); },
       {"\"mine\"", "shape from (2,) to (3,)"}},
      {"a hook that changes the type",
       [] { backward_with(hook_returning(Tensor::ones({2}, DType::float64))); },
       {"\"mine\"", "type from float32 to float64"}},
      {"a node hook with another count",
       [] {
         const Tensor y = leaf() * 2.0;
         y.grad_fn()->register_prehook([](const Tensors&) { return std::optional(Tensors(2)); });
         y.backward(Tensor::ones({2}));
       },
       {"node pre-hook of", "it returned 2 gradients, expected 1"}},
      {"grad of nothing", [] { grad({sum(leaf())}, {}); }, {"grad: no inputs given"}},
      {"grad of an input out of reach",
       [] { grad({sum(leaf())}, {leaf()}); },
       {"grad: the outputs do not depend on input 0 of shape (2,)", "allow_unused"}},
      {"grad of an input without gradient",
       [] { grad({sum(leaf())}, {Tensor::ones({2})}); },
       {"grad: input 0 of shape (2,) does not require a gradient"}},
      {"backward into nothing",
       [] { backward({sum(leaf())}, {}, {.inputs = Tensors{}}); },
       {"backward: the list of inputs is empty"}},
      {"backward into an input without gradient",
       [] { backward({sum(leaf())}, {}, {.inputs = Tensors{Tensor::ones({})}}); },
       {"backward: input 0 does not require a gradient"}},
      {"an inference tensor saved",
       [] {
         Tensor made;
         {
           InferenceMode guard;
           made = Tensor::ones({2});
         }
         leaf() * made;
       },
       {"mul: a tensor of shape (2,) made in inference mode cannot be saved for backward", "clone"}},
      {"a backward of the wrong count",
       [] {
         const Tensor x = leaf();
         record("own", x.detach().clone(), {x}, {}, [](const Backward&) {
           return Tensors(2);
         }).backward(Tensor::ones({2}));
       },
       {"own: its backward gave 2 gradients for 1 inputs"}},
      {"a backward of the wrong shape",
       [] {
         const Tensor x = leaf();
         record("own", x.detach().clone(), {x}, {}, [](const Backward&) {
           return Tensors{Tensor::ones({5})};
         }).backward(Tensor::ones({2}));
       },
       {"own: its backward gave a gradient of shape (5,) for input 0, expected shape (2,)"}},
      {"pass_local outside a pass", [] { pass_local(nullptr); }, {"pass_local: no backward pass is running"}},
      {"a multi-gradient hook on nothing",
       [] { register_any_grad_hook({}, [](const Tensor&) {}); },
       {"register_any_grad_hook: no tensors given"}},
      {"a multi-gradient hook without a gradient",
       [] { register_all_grads_hook({Tensor::ones({2})}, [](const Tensors&) {}); },
       {"register_all_grads_hook: a tensor of shape (2,) requires no gradient"}},
  };
  return all;
}

}  // namespace

TEST_CASE("wrong uses of the graph are told in one line, and it works afterwards") {
  for (const WrongUse& wrong : wrong_uses()) {
    CAPTURE(wrong.what);
    std::string message;
    try {
      wrong.use();
    } catch (const Error& error) {
      message = error.what();
    }
    CAPTURE(message);
    CHECK_FALSE(message.empty());
    CHECK_EQ(message.find('\n'), std::string::npos);
    for (const std::string& word : wrong.words) {
      CAPTURE(word);
      CHECK_NE(message.find(word), std::string::npos);
    }
    CHECK(grad_enabled());
    const Tensor x = leaf();
    sum(x * x).backward();
    CHECK_EQ(x.grad().to_vector<float>(), std::vector<float>{2, 2});
  }
}

TEST_CASE("[better-6] what a hook of the graph throws names the hook and keeps its class") {
  const auto boom = [](const auto&...) -> std::nullopt_t { throw NameError("boom"); };
  const auto check = [](const Tensor& y, ScopedHook hook, const char* message) {
    CHECK_THROWS_WITH_AS(y.backward(Tensor::ones({2}), true), message, NameError);
    hook = {};
    CHECK_NOTHROW(y.backward(Tensor::ones({2}), true));
  };
  const Tensor x = leaf(), y = x * 2.0;
  check(y, y.register_hook(boom, "mine"), "tensor hook \"mine\" of affine: boom");
  check(y, x.register_hook(boom), "tensor hook of accumulate_grad: boom");
  check(y, y.grad_fn()->register_prehook(boom, "mine"), "node pre-hook \"mine\" of affine: boom");
  check(y, y.grad_fn()->register_hook(boom, "mine"), "node post-hook \"mine\" of affine: boom");
  check(y, x.register_post_accumulate_grad_hook([&](Tensor& t) { boom(t); }, "mine"),
        "post-accumulate hook \"mine\" of accumulate_grad: boom");

  y.register_hook([](const Tensor&) -> std::optional<Tensor> { throw std::runtime_error("original"); });
  try {
    y.backward(Tensor::ones({2}));
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK_EQ(std::string(error.what()), "tensor hook of affine: original");
    CHECK_THROWS_WITH_AS(std::rethrow_if_nested(error), "original", std::runtime_error);
  }
}
