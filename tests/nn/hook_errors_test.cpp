// Wrong uses of module hooks and calls: the class and the words of each error.
#include "grapnel/engine/grad_mode.h"
#include "nn/any_hook.h"

using namespace grapnel;
using namespace grapnel::testing;

TEST_CASE("[hook-99] a list of the wrong length is refused with both counts") {
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
