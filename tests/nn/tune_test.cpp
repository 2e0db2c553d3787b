// Choices between ways of computing convolutions: what is measured, that it takes effect, and how it is kept.
#include "grapnel/nn/tune.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "grapnel/engine/backend.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops/conv2d_shape.h"
#include "grapnel/nn/explain.h"
#include "grapnel/nn/layers.h"
#include "support/device.h"

using namespace grapnel;

namespace {

/// 3x3 convolutions of 16 and of 32 channels, which go by tiles, and one with a stride of three, which
/// cannot.
class SmallNet : public nn::Module {
 public:
  SmallNet()
      : first(register_module("first", std::make_shared<nn::Conv2d>(16, 32, std::pair{3, 3}, options(1)))),
        again(register_module("again", std::make_shared<nn::Conv2d>(32, 32, std::pair{3, 3}, options(1)))),
        stride(register_module("stride", std::make_shared<nn::Conv2d>(32, 32, std::pair{3, 3}, options(3)))) {
  }
  std::string type_name() const override { return "SmallNet"; }

  static Conv2dOptions options(std::int64_t step) { return {.stride = {step, step}, .padding = {1, 1}}; }

  std::shared_ptr<nn::Conv2d> first, again, stride;

 protected:
  Tensor forward(const Tensor& x) override { return (*stride)((*again)((*again)((*first)(x)))); }
};

/// Every test leaves the choice to the shapes again.
struct Forget {
  ~Forget() {
    for (const ConvChoice& choice : choices)
      use_conv_choices(choice.convolution + " " + choice.milliseconds.front().first);
  }
  std::vector<ConvChoice> choices;
};

std::string variant(const nn::Conv2d& layer, const Shape& x, kernels::ConvPass pass) {
  return backend({}).f32.conv2d_variant(describe_conv2d("test", x, layer.weight.shape(), layer.options()),
                                        pass);
}

Tensor example() {
  Generator generator(3);
  return Tensor::randn({1, 16, 20, 20}, generator);
}

std::string message_of(const std::string& text) {
  try {
    use_conv_choices(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

}  // namespace

TEST_CASE("tune: every convolution once, in every way that computes it, and the answer stays" *
          testing::on_cpu_only("devices have one way to compute a convolution")) {
  SmallNet net;
  const InferenceMode inference;
  const Tensor before = net(example());
  const Forget tuned{tune(net, example(), false, 3)};
  REQUIRE(tuned.choices.size() == 3);  // `again` runs twice
  CHECK(tuned.choices[0].convolution ==
        "forward n=1 c=16 h=20 w=20 k=32 r=3 s=3 oh=20 ow=20 stride_h=1 stride_w=1 pad_h=1 pad_w=1 dil_h=1 "
        "dil_w=1 groups=1");
  for (const ConvChoice& choice : tuned.choices) {
    std::vector<std::string> ways;
    for (const auto& [way, time] : choice.milliseconds) {
      CHECK(time > 0);
      ways.push_back(way);
    }
    CHECK(std::ranges::count(ways, choice.variant) == 1);
    std::ranges::sort(ways);
    if (&choice == &tuned.choices[2])
      CHECK(ways == std::vector<std::string>{"direct"});
    else
      CHECK(ways == std::vector<std::string>{"direct", "winograd2", "winograd4", "winograd4few"});
  }
  CHECK(variant(*net.first, {1, 16, 20, 20}, kernels::ConvPass::forward) == tuned.choices[0].variant);
  CHECK(nn::explain_hooks(net).find("1. forward pre hook \"tune\" of first (Conv2d): fired, removed since") !=
        std::string::npos);
  const Tensor after = net(example());
  CHECK(amax(abs(after - before)).item() < 1e-5);
}

TEST_CASE("tune: gradients, too, if asked" *
          testing::on_cpu_only("devices have one way to compute a convolution")) {
  SmallNet net;
  const Forget tuned{tune(net, example(), true, 1)};
  REQUIRE(tuned.choices.size() == 9);
  CHECK(tuned.choices[3].convolution.starts_with("input_grad n=1 c=16"));
  CHECK(tuned.choices[6].convolution.starts_with("weight_grad n=1 c=16"));
  CHECK(tuned.choices[6].milliseconds.size() == 3);  // few tiles have no loop that sums them
  CHECK(variant(*net.first, {1, 16, 20, 20}, kernels::ConvPass::weight_grad) == tuned.choices[6].variant);
}

TEST_CASE("tune: a choice takes effect for its shape and pass only, and text gives it back" *
          testing::on_cpu_only("devices have one way to compute a convolution")) {
  SmallNet net;
  Forget tuned{tune(net, example(), false, 1)};
  const auto of_first = [&](std::int64_t size) {
    return variant(*net.first, {1, 16, size, size}, kernels::ConvPass::forward);
  };
  const std::string other_size = of_first(24);
  for (const char* wanted : {"direct", "winograd2", "winograd4"}) {
    tuned.choices[0].variant = wanted;
    CHECK(use_conv_choices(to_text(tuned.choices)) == 2);  // there is one way only for the third
    CHECK(of_first(20) == wanted);
    CHECK(of_first(24) == other_size);
  }
}

TEST_CASE("tune: a wrong text changes nothing and says which line" *
          testing::on_cpu_only("devices have one way to compute a convolution")) {
  SmallNet net;
  const Forget tuned{tune(net, example(), false, 1)};
  const std::string line = tuned.choices[0].convolution, now = tuned.choices[0].variant;
  const std::string other = now == "direct" ? "winograd2" : "direct";
  const auto with = [&](const std::string& second) { return message_of(line + " " + other + "\n" + second); };
  CHECK(with("sideways n=1") ==
        "convolution choices, line 2: \"sideways\", expected forward, input_grad or weight_grad");
  CHECK(with("forward n=1 c=x") == "convolution choices, line 2: \"c=x\", expected c=NUMBER");
  CHECK(with("forward n=1 c=") == "convolution choices, line 2: \"c=\", expected c=NUMBER");
  CHECK(with("forward c=1") == "convolution choices, line 2: expected n=NUMBER");
  CHECK(with(line) == "convolution choices, line 2: no variant at its end");
  CHECK(with(line + " fft") == "convolution choices, line 2: \"fft\" names no way to compute a convolution");
  CHECK(with(line + " direct winograd2") == "convolution choices, line 2: \"winograd2\" after the variant");
  CHECK(variant(*net.first, {1, 16, 20, 20}, kernels::ConvPass::forward) == now);
  CHECK(with("  # nothing") == "none");
  CHECK(variant(*net.first, {1, 16, 20, 20}, kernels::ConvPass::forward) == other);
}

TEST_CASE("tune: no rounds, or a net that does not fit, is refused" *
          testing::on_cpu_only("devices have one way to compute a convolution")) {
  SmallNet net;
  CHECK_THROWS_WITH_AS(tune(net, example(), false, 0), "tune: 0 rounds, expected 1 or more", Error);
  CHECK_THROWS_AS(tune(net, Tensor::zeros({1, 3, 8, 8})), ShapeError);
}
