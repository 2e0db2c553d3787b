// What explaining leaves behind, what it refuses, and what must hold without any reference.
#include "grapnel/viz/explain.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/ops.h"
#include "grapnel/viz/features.h"
#include "viz/expected.h"
#include "viz/small_nets.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

constexpr double kFloat32 = std::numeric_limits<float>::epsilon();

Explanation explain_one(nn::Module& net, const Tensor& x, Method method, const std::string& layer,
                        int target = 1) {
  Observation seen(net, x, observe_for({&method, 1}, {layer}));
  return explain(seen, method, target).at(0);
}

bool has_hooks(nn::Module& net) {
  const auto modules = net.named_modules();
  return std::any_of(modules.begin(), modules.end(), [](const auto& entry) {
    const nn::HookNames names = entry.second->hook_names();
    return !(names.forward_pre.empty() && names.forward.empty() && names.full_backward_pre.empty() &&
             names.full_backward.empty());
  });
}

/// Largest difference after both were scaled to a maximum of 1.
double difference_up_to_scale(const FloatMap& a, const FloatMap& b) {
  const float scale_a = *std::max_element(a.values.begin(), a.values.end());
  const float scale_b = *std::max_element(b.values.begin(), b.values.end());
  double worst = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(a.values[i]) / scale_a - b.values[i] / scale_b));
  return worst;
}

/// Pooled maps and one linear layer whose weights are all negative: no map speaks for any class.
ModulePtr pessimist() {
  auto linear = std::make_shared<nn::Linear>(4, 3);
  auto net =
      sequence({convolution(3, 4), std::make_shared<nn::ReLU>(),
                std::make_shared<nn::AdaptiveAvgPool2d>(1, 1), std::make_shared<nn::Flatten>(), linear});
  prepared(net);
  linear->weight.detach().fill_(-1);
  return net;
}

}  // namespace

TEST_CASE("behind global average pooling CAM, Grad-CAM, HiResCAM and XGrad-CAM are one map") {
  const auto net = narrow_resnet();
  const Method methods[] = {Method::cam, Method::gradcam, Method::hirescam, Method::xgradcam};
  Observation seen(*net, resnet_picture(), observe_for(methods, {"layer4"}));
  for (int target = 0; target < seen.classes(); ++target) {
    CAPTURE(target);
    FloatMap cam = explain(seen, Method::cam, target).at(0).raw;
    for (float& value : cam.values) value = std::max(value, 0.0f);
    for (const Method method : {Method::gradcam, Method::hirescam}) {
      const Explanation found = explain(seen, method, target).at(0);
      if (found.heat.flat)
        CHECK(*std::max_element(cam.values.begin(), cam.values.end()) == 0);
      else
        CHECK(difference_up_to_scale(found.raw, cam) <= 4 * kFloat32);
    }
    // Its eps of 1e-7 changes the weight of a map by that over the map's sum; a map of zeros has no part.
    double smallest = std::numeric_limits<double>::infinity();
    for (const double total : sum(seen.activation(0), {2, 3}).to_vector<double>())
      if (total > 0) smallest = std::min(smallest, total);
    const FloatMap x = explain(seen, Method::xgradcam, target).at(0).raw;
    if (*std::max_element(cam.values.begin(), cam.values.end()) > 0)
      CHECK(difference_up_to_scale(x, cam) <= 4 * kFloat32 + 4e-7 / smallest);
  }
}

TEST_CASE("a CAM's mean is the logit without the bias") {
  const auto net = narrow_resnet();
  Observation seen(*net, resnet_picture(), {.layers = {"layer4"}});
  const auto bias = dynamic_cast<nn::Linear&>(net->at("fc")).bias.to_vector<double>();
  for (int target = 0; target < seen.classes(); ++target) {
    const Tensor terms = seen.class_weights(0, target) * seen.activation(0);
    const double plane = 3 * 2, count = static_cast<double>(terms.numel());
    const double logit = sum(terms).item() / plane + bias[static_cast<std::size_t>(target)];
    const double size = sum(abs(terms)).item() / plane + 1;
    CHECK(std::abs(logit - seen.score(target)) <= count * std::numeric_limits<double>::epsilon() * size);
  }
}

TEST_CASE("explaining leaves the net as it was") {
  const auto net = narrow_resnet();
  const Tensor x = resnet_picture();
  net->train();
  net->at("layer2").eval();
  net->at("fc").parameters().at(0).set_requires_grad(false);
  std::vector<std::vector<double>> state;
  for (const auto& [name, tensor] : net->state_dict()) state.push_back(tensor.to_vector<double>());
  {
    Observation seen(*net, x, observe_for(all_methods(), {"layer4"}));
    CHECK(has_hooks(*net));
    for (const Method method : all_methods()) explain(seen, method, 2);
  }
  CHECK_FALSE(has_hooks(*net));
  CHECK(net->training());
  CHECK(net->at("layer3.0.bn1").training());
  CHECK_FALSE(net->at("layer2.1.relu").training());
  for (const auto& [name, parameter] : net->named_parameters()) {
    CHECK(parameter.requires_grad() == (name != "fc.weight"));
    CHECK_FALSE(parameter.grad().defined());
  }
  for (std::size_t i = 0; i < state.size(); ++i)
    CHECK(net->state_dict()[i].second.to_vector<double>() == state[i]);
  CHECK_FALSE(x.requires_grad());
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("other calls of an observed net are as ever") {
  const auto net = narrow_resnet();
  const Tensor x = resnet_picture();
  const auto logits_and_gradient = [&] {
    const Tensor input = x.detach().set_requires_grad();
    const Tensor logits = (*net)(input);
    return cat({flatten(logits.detach()), flatten(grad({sum(logits)}, {input})[0])}).to_vector<double>();
  };
  const auto before = logits_and_gradient();
  {
    Observation seen(*net, x, observe_for(all_methods(), {"layer4"}));
    seen.input_gradient(3, ReluRule::deconvnet);
    CHECK(logits_and_gradient() == before);
  }
  CHECK(logits_and_gradient() == before);
}

TEST_CASE("a net in training mode is explained in eval mode, and learns no statistics") {
  const auto net = narrow_resnet();
  const Tensor x = resnet_picture();
  const Explanation expected = explain_one(*net, x, Method::guided_gradcam, "layer4");
  const auto plain = (*net)(x).to_vector<double>();
  net->train();
  CHECK(explain_one(*net, x, Method::guided_gradcam, "layer4").heat.map == expected.heat.map);
  net->eval();
  CHECK((*net)(x).to_vector<double>() == plain);
}

TEST_CASE("frozen parameters, no_grad and in-place layers change nothing") {
  const auto net = narrow_resnet();
  const Tensor x = resnet_picture();
  const auto pixels = x.to_vector<double>();
  for (const Method method : all_methods()) {
    CAPTURE(name(method));
    net->set_requires_grad(true);
    const Explanation expected = explain_one(*net, x, method, "layer4");
    net->set_requires_grad(false);
    CHECK(explain_one(*net, x, method, "layer4").heat.map == expected.heat.map);
    CHECK(explain_one(*narrow_resnet(true), x, method, "layer4").heat.map == expected.heat.map);
    const NoGrad no_grad;
    CHECK(explain_one(*net, x, method, "layer4").heat.map == expected.heat.map);
  }
  CHECK(x.to_vector<double>() == pixels);
  const auto in_place_first =
      prepared(sequence({std::make_shared<nn::ReLU>(true), convolution(3, 4),
                         std::make_shared<nn::AdaptiveAvgPool2d>(1, 1), std::make_shared<nn::Flatten>()}));
  explain_one(*in_place_first, x, Method::saliency, "");
  CHECK(x.to_vector<double>() == pixels);
}

TEST_CASE("hooks are gone and modes are back after an exception") {
  const auto net = narrow_resnet();
  net->train();
  const Tensor x = resnet_picture();
  const auto observe = [&](const std::string& layer) {
    Observation seen(*net, x, {.layers = {"layer4", layer}, .input_gradient = true});
  };
  CHECK(contains(message_of<ShapeError>([&] { observe("fc"); }),
                 "layer \"fc\" returned (1, 10), expected maps"));
  CHECK(contains(message_of<NameError>([&] { observe("layer4.2"); }), "no module \"layer4.2\""));
  {
    const ScopedHook bad = net->at("layer3").register_forward_hook(
        [](nn::Module&, const Tensors&, const Tensors&) -> std::optional<Tensors> {
          throw Error("no more");
        });
    CHECK(contains(message_of<Error>([&] { observe("layer1"); }), "no more"));
  }
  CHECK_FALSE(has_hooks(*net));
  CHECK(net->training());
  CHECK(net->at("conv1").parameters().at(0).requires_grad());
  {
    Observation seen(*net, x, {.layers = {}, .input_gradient = true});
    const ScopedHook bad = net->at("layer3.0.relu")
                               .register_full_backward_hook(
                                   [](nn::Module&, const Tensors&, const Tensors&) -> std::optional<Tensors> {
                                     throw Error("no more");
                                   });
    CHECK(
        seen.input_gradient(0, ReluRule::guided).defined());  // registered after the run, so it does not fire
  }
  CHECK_FALSE(has_hooks(*net));
}

TEST_CASE("a rule that fails on its way leaves the ordinary gradient ordinary") {
  const auto net = narrow_resnet();
  bool fail = false;
  const ScopedHook hook = net->at("layer2.0.relu")
                              .register_full_backward_hook([&fail](nn::Module&, const Tensors&,
                                                                   const Tensors&) -> std::optional<Tensors> {
                                if (fail) throw Error("no more");
                                return std::nullopt;
                              });
  Observation seen(*net, resnet_picture(), {.layers = {}, .input_gradient = true});
  const auto ordinary = seen.input_gradient(0).to_vector<double>();
  const auto other = seen.input_gradient(1).to_vector<double>();
  fail = true;
  CHECK_THROWS_AS(seen.input_gradient(0, ReluRule::deconvnet), Error);
  fail = false;
  CHECK(seen.input_gradient(0).to_vector<double>() == ordinary);
  CHECK(seen.input_gradient(1).to_vector<double>() == other);
  CHECK_FALSE(ordinary == other);
}

TEST_CASE("a map without anything in it is zero and flagged") {
  const auto net = pessimist();
  const Tensor x = picture_for("plain", 12, 10);
  for (const Method method : {Method::gradcam, Method::gradcam_plus_plus, Method::xgradcam, Method::hirescam,
                              Method::elementwise, Method::layercam, Method::guided_gradcam}) {
    CAPTURE(name(method));
    const Explanation found = explain_one(*net, x, method, "1");
    CHECK(found.heat.flat);
    CHECK(found.heat.map.values == std::vector<float>(12 * 10, 0.0f));
    CHECK(found.raw.values == std::vector<float>(12 * 10, 0.0f));
  }
  const Explanation cam = explain_one(*net, x, Method::cam, "1");
  CHECK_FALSE(cam.heat.flat);
  CHECK(*std::max_element(cam.raw.values.begin(), cam.raw.values.end()) <= 0);

  dynamic_cast<nn::Linear&>(net->at("4")).weight.detach().fill_(0);
  Observation seen(*net, x, {.layers = {"1"}});
  const Explanation classic = explain(seen, Method::cam, 0, {.classic_tail = true}).at(0);
  CHECK(classic.heat.flat);
  CHECK(classic.heat.map.values == std::vector<float>(12 * 10, 0.0f));
}

TEST_CASE("CAM says where it applies, and names Grad-CAM") {
  const auto message = [](const ModulePtr& net, const Tensor& x, const std::string& layer) {
    return message_of<Error>([&] { explain_one(*net, x, Method::cam, layer); });
  };
  const std::string plain = message(plain_net(), picture_for("plain", 22, 18), "0.6");
  CHECK(contains(plain, "layer \"0.6\""));
  CHECK(contains(plain, "2 linear layers follow (3.0, 3.3)"));
  CHECK(contains(plain, "use Grad-CAM"));
  CHECK(contains(message(narrow_resnet(), resnet_picture(), "layer3"), "\"fc\" reads something else"));
  const auto pooled = prepared(sequence({convolution(3, 4), std::make_shared<nn::AdaptiveAvgPool2d>(1, 1),
                                         std::make_shared<nn::Flatten>(), std::make_shared<nn::Linear>(4, 3),
                                         std::make_shared<nn::ReLU>()}));
  CHECK(contains(message(pooled, picture_for("plain", 6, 6), "0"),
                 "what \"3\" returns is not the net's output"));
  const auto headless = prepared(sequence(
      {convolution(3, 4), std::make_shared<nn::AdaptiveAvgPool2d>(1, 1), std::make_shared<nn::Flatten>()}));
  CHECK(contains(message(headless, picture_for("plain", 6, 6), "0"), "0 linear layers follow"));
}

TEST_CASE("what cannot be explained is refused in words") {
  const auto net = narrow_resnet();
  const Tensor x = resnet_picture();
  CHECK(contains(message_of<ShapeError>([&] {
                   Observation(*net, cat({x, x}), {});
                 }),
                 "expected one picture (1,C,H,W)"));
  CHECK(contains(message_of<ShapeError>([&] { Observation(*prepared(convolution(3, 4)), x, {}); }),
                 "expected logits (1,classes)"));
  CHECK(contains(message_of<Error>([] {
                   Observation(*repeated_net(), picture_for("repeated", 9, 13), {.layers = {"unused"}});
                 }),
                 "layer \"unused\" did not run"));
  CHECK(contains(message_of<AutogradError>([&] {
                   const InferenceMode inference;
                   Observation(*net, x, {});
                 }),
                 "inference mode"));
  CHECK(contains(message_of<NameError>([] { observe_for(all_methods(), {}); }), "cam explains a layer"));
  CHECK(contains(message_of<NameError>([] { parse_method("scam"); }), "there are cam, gradcam, gradcam++,"));
  for (const Method method : all_methods()) CHECK(parse_method(name(method)) == method);

  Observation seen(*net, x, {});
  CHECK(contains(message_of<Error>([&] { explain(seen, Method::gradcam, 0); }), "no layer was observed"));
  CHECK(contains(message_of<Error>([&] { explain(seen, Method::saliency, 0); }), "input_gradient"));
  CHECK(contains(message_of<NameError>([&] { seen.score(10); }), "the net knows 0 to 9"));
  Observation linear(*prepared(sequence({convolution(3, 4), std::make_shared<nn::AdaptiveAvgPool2d>(1, 1),
                                         std::make_shared<nn::Flatten>()})),
                     x, {.layers = {}, .input_gradient = true});
  CHECK(linear.input_gradient(0).shape() == x.shape());
  CHECK(contains(message_of<Error>([&] { linear.input_gradient(0, ReluRule::guided); }), "no ReLU module"));
}

TEST_CASE("Guided Grad-CAM at every layer of a Sequential") {
  const auto net = plain_net();
  const Method method = Method::guided_gradcam;
  Observation seen(*net, picture_for("plain", 22, 18), observe_for({&method, 1}, children_of(*net, "0")));
  const auto found = explain(seen, method, 3);
  REQUIRE(found.size() == 7);
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].layer == "0." + std::to_string(i));
    CHECK(found[i].gradient.shape() == Shape{1, 3, 22, 18});
    CHECK(explain_one(*net, seen.input(), method, found[i].layer, 3).heat.map == found[i].heat.map);
  }
}

TEST_CASE("a layer the class does not depend on has a zero gradient") {
  const auto net = repeated_net();
  dynamic_cast<nn::Linear&>(net->at("fc")).weight.detach().fill_(0);
  const Explanation found = explain_one(*net, picture_for("repeated", 9, 13), Method::gradcam, "relu", 0);
  CHECK(found.heat.flat);
  CHECK(found.raw.values == std::vector<float>(9 * 13, 0.0f));
}

TEST_CASE("targets by index, label and rank") {
  const Tensor logits = Tensor::from<float>({0.5f, 3, -1, 3}, {1, 4});
  const ClassNames names({"ant", "bee", "cat", "dog"});
  CHECK(resolve_targets("2", logits) == std::vector{2});
  CHECK(resolve_targets("Bee", logits, &names) == std::vector{1});
  CHECK(resolve_targets("top1", logits) == std::vector{1});
  CHECK(resolve_targets("top3", logits) == std::vector{1, 3, 0});
  CHECK(resolve_targets("top2..top4", logits) == std::vector{3, 0, 2});
  CHECK(contains(message_of<NameError>([&] { resolve_targets("4", logits); }),
                 "the net knows the classes 0 to 3"));
  CHECK(contains(message_of<NameError>([&] { resolve_targets("bee", logits); }), "without labels"));
  for (const char* text : {"top0", "top5", "top3..top2", "top1..top9"})
    CHECK(contains(message_of<NameError>([&] { resolve_targets(text, logits); }), "ranks go up from 1 to 4"));
  CHECK_THROWS_AS(resolve_targets("-1", logits), NameError);
  CHECK_THROWS_AS(resolve_targets("top", logits, &names), NameError);
  const Tensor narrower = Tensor::zeros({1, 2});
  CHECK(contains(message_of<NameError>([&] { resolve_targets("dog", narrower, &names); }),
                 "it is class 3, but the net knows the classes 0 to 1"));
  CHECK_THROWS_AS(resolve_targets("top1", Tensor::zeros({2, 4})), ShapeError);
}

TEST_CASE("gradient pictures") {
  // One pixel a channel; mean 0, standard deviation sqrt(2/3).
  const Tensor gradient = Tensor::from<float>({-1, 0, 1}, {1, 3, 1, 1});
  const auto pixels = [&](GradientPart part, const Tensor& g) {
    const Image image = gradient_picture(g, part);
    return std::vector<int>(image.pixels().begin(), image.pixels().end());
  };
  CHECK(pixels(GradientPart::positive, gradient) == std::vector{0, 0, 255});
  CHECK(pixels(GradientPart::negative, gradient) == std::vector{255, 0, 0});
  CHECK(pixels(GradientPart::absolute, gradient) == std::vector{255, 0, 255});
  // 255 * (0.5 -+ 0.1 * sqrt(3/2)) = 96.27, 158.73
  CHECK(pixels(GradientPart::both, gradient) == std::vector{96, 128, 159});
  CHECK(pixels(GradientPart::both, gradient * 1e-9) == std::vector{96, 128, 159});
  CHECK(pixels(GradientPart::both, gradient * 0.0) == std::vector{128, 128, 128});
  CHECK(pixels(GradientPart::positive, -abs(gradient)) == std::vector{0, 0, 0});
  CHECK_THROWS_AS(gradient_picture(Tensor::zeros({1, 1, 4, 4})), ShapeError);
  CHECK_THROWS_AS(gradient_picture(log(gradient)), Error);
}
