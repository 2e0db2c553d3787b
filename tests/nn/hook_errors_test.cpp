// Wrong uses of module hooks and calls: the class and the words of each error, and that all works afterwards.
#include <type_traits>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/layers.h"
#include "nn/any_hook.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::Module;

namespace {

struct Two : Labelled {
  using Labelled::Labelled;
  std::string type_name() const override { return "Two"; }
  Tensors forward_list(const Tensors& x) override { return {x[0], x[0]}; }
};

struct Nothing : Labelled {
  using Labelled::Labelled;
  std::string type_name() const override { return "Nothing"; }
};

/// What was thrown, as "ShapeError: message".
std::string caught(const std::function<void()>& use) {
  try {
    use();
  } catch (const ShapeError& error) {
    return std::string("ShapeError: ") + error.what();
  } catch (const TypeError& error) {
    return std::string("TypeError: ") + error.what();
  } catch (const AutogradError& error) {
    return std::string("AutogradError: ") + error.what();
  } catch (const NameError& error) {
    return std::string("NameError: ") + error.what();
  } catch (const Error& error) {
    return std::string("Error: ") + error.what();
  }
  return "nothing";
}

/// Forward and backward of a net whose second module has `hook`, called "h", registered by `registration`.
template <class Registration, class Hook>
std::function<void()> with_hook(Registration registration, const Hook& hook) {
  return [=] {
    auto net = two_scales();
    ((*net->second).*registration)(hook, {.name = "h"});
    (*net)(leaf(3)).backward();
  };
}

/// Registers an empty function.
template <class Registration>
std::function<void()> empty(Registration registration) {
  return [=] { (Scale("net", 2).*registration)(nullptr, {}); };
}

constexpr auto kPre = &Module::register_forward_pre_hook;
constexpr auto kForward = &Module::register_forward_hook;
constexpr auto kBackwardPre = &Module::register_full_backward_pre_hook;
constexpr auto kBackward = &Module::register_full_backward_hook;

template <class M>
concept HasPublicForward = requires(M& module, const Tensor& x) {
  module.forward(x);
};

template <class Hook, class... Lists>
constexpr bool kHookFrom = std::is_constructible_v<Hook, std::function<int(Module&, Lists...)>> ||
                           std::is_constructible_v<Hook, std::function<std::string(Module&, Lists...)>> ||
                           std::is_constructible_v<Hook, std::function<Tensor(Module&, Lists...)>>;

}  // namespace

TEST_CASE("[hook-99] [better-4] [better-6] wrong uses: the class and the words of each error") {
  struct WrongUse {
    std::function<void()> use;
    std::string error;
  };
  const auto two = returning({leaf(1), leaf(1)});
  const WrongUse table[] = {
      // lists of another length
      {with_hook(kPre, two),
       "ShapeError: forward pre hook \"h\" of second (Scale): returned 2 tensors, expected 1"},
      {with_hook(kForward, two),
       "ShapeError: forward hook \"h\" of second (Scale): returned 2 tensors, expected 1"},
      {with_hook(kBackwardPre, two),
       "ShapeError: full backward pre hook \"h\" of second (Scale): returned 2 tensors, expected 1"},
      {with_hook(kBackward, two),
       "ShapeError: full backward hook \"h\" of second (Scale): returned 2 tensors, expected 1"},
      {with_hook(kBackward, returning({})),
       "ShapeError: full backward hook \"h\" of second (Scale): returned 0 tensors, expected 1"},
      // gradients of another shape or type
      {with_hook(kBackward, returning({Tensor::ones({2})})),
       "ShapeError: full backward hook \"h\" of second (Scale): returned gradient 0 of shape (2,), expected "
       "(1,)"},
      {with_hook(kBackwardPre, returning({Tensor::ones({1}, DType::float64)})),
       "TypeError: full backward pre hook \"h\" of second (Scale): returned gradient 0 of type float64, "
       "expected float32"},
      // functions that are none
      {empty(kPre), "Error: forward pre hook: an empty function was registered, expected a hook"},
      {empty(kForward), "Error: forward hook: an empty function was registered, expected a hook"},
      {empty(kBackwardPre),
       "Error: full backward pre hook: an empty function was registered, expected a hook"},
      {empty(kBackward), "Error: full backward hook: an empty function was registered, expected a hook"},
      {empty(&Module::register_state_dict_pre_hook),
       "Error: state_dict pre hook: an empty function was registered, expected a hook"},
      {empty(&Module::register_state_dict_post_hook),
       "Error: state_dict post hook: an empty function was registered, expected a hook"},
      {empty(&Module::register_load_state_dict_pre_hook),
       "Error: load_state_dict pre hook: an empty function was registered, expected a hook"},
      {empty(&Module::register_load_state_dict_post_hook),
       "Error: load_state_dict post hook: an empty function was registered, expected a hook"},
      {[] { nn::register_global_forward_hook(nullptr); },
       "Error: forward hook: an empty function was registered, expected a hook"},
      // a gradient where none is computed
      {[] {
         Scale net("net", 2);
         net.register_forward_hook([](Module&, const Tensors&, const Tensors& outputs) {
           outputs[0].register_hook([](const Tensor&) { return std::nullopt; });
           return std::nullopt;
         });
         NoGrad no_grad;
         net(leaf(3));
       },
       "AutogradError: forward hook of Scale: register_hook: this tensor of shape (1,) has no gradient: it "
       "was "
       "made while gradients are switched off (NoGrad)"},
      // a leaf overwritten
      {[] {
         nn::ReLU net(true);
         net.register_full_backward_hook(returning({leaf(1)}));
         net(leaf(3));
       },
       "AutogradError: relu_: a view of a leaf of shape (1,) that requires a gradient cannot be changed in "
       "place; do it under NoGrad, or on a clone"},
      // calls
      {[] { Cube("net")(Tensors{}); }, "ShapeError: Cube: takes one tensor, got 0"},
      {[] { Two("net")(leaf(1)); }, "ShapeError: Two: called for one tensor, it gave 2; call it with a list"},
      {[] { Nothing("net")(leaf(1)); },
       "Error: Nothing: it computes nothing of its own; override forward or forward_list"},
      {[] { two_scales()->at("third").register_forward_hook(nullptr); },
       "NameError: no module \"third\": the root (Chain) has first, second"},
  };
  for (const auto& [use, error] : table) {
    CHECK(caught(use) == error);
    const Tensor x = leaf(3);
    (*two_scales())(x).backward();
    CHECK(x.grad().item() == 10);
  }
}

TEST_CASE("[hook-104] a hook that returns what is no list of tensors does not compile") {
  static_assert(std::is_constructible_v<nn::ForwardHook, decltype(returning({}))>);
  static_assert(!kHookFrom<nn::ForwardPreHook, const Tensors&>);
  static_assert(!kHookFrom<nn::ForwardHook, const Tensors&, const Tensors&>);
  static_assert(!kHookFrom<nn::BackwardPreHook, const Tensors&>);
  static_assert(!kHookFrom<nn::BackwardHook, const Tensors&, const Tensors&>);
  // A hook of another kind, which would see other lists.
  static_assert(!std::is_constructible_v<nn::ForwardHook, nn::ForwardPreHook>);
  static_assert(!std::is_constructible_v<nn::BackwardPreHook, nn::BackwardHook>);
}

TEST_CASE("[better-5] every way to call a module runs its hooks, and forward cannot be reached") {
  static_assert(!HasPublicForward<Module> && !HasPublicForward<nn::Conv2d> && !HasPublicForward<nn::ReLU> &&
                !HasPublicForward<nn::Sequential>);
  static_assert(std::is_invocable_v<nn::Conv2d&, const Tensor&> &&
                std::is_invocable_v<Module&, const Tensors&>);
  int calls = 0;
  auto relu = std::make_shared<nn::ReLU>();
  relu->register_forward_hook(counting(calls));
  (*relu)(leaf(3));
  (*relu)(Tensors{leaf(3)});
  static_cast<Module&> (*relu)(leaf(3));
  nn::Sequential({relu, relu})(leaf(3));
  CHECK(calls == 5);
}

TEST_CASE("[better-6] an exception names the hook, keeps its class, and leaves the engine usable") {
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

TEST_CASE("[hook-95] the original error wins over one of an always_call hook") {
  Failing net("net");
  net.register_forward_hook(throwing(Error("too late")), {.always_call = true, .name = {}});
  CHECK(message_of<Error>([&] { net(leaf(3)); }) == "on purpose");
}
