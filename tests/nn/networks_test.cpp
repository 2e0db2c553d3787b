// The three networks against torchvision's names, order, types and shapes (golden/make_names.py), and their
// summaries.
#include <cmath>
#include <fstream>
#include <sstream>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/random.h"
#include "grapnel/nn/init.h"
#include "grapnel/nn/layers.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/summary.h"
#include "nn/small_modules.h"
#include "support/device.h"

using namespace grapnel;

namespace {

std::string golden(const std::string& name) {
  std::ifstream file(GRAPNEL_TEST_DIR "/nn/golden/" + name + ".txt");
  std::string line, text;
  std::getline(file, line);
  while (std::getline(file, line)) text += line + "\n";
  return text;
}

/// The same lines as the Python script writes.
std::string listing(nn::Module& net) {
  std::ostringstream out;
  for (const auto& [path, module] : net.named_modules())
    out << "module " << (path.empty() ? "." : path) << " " << module->type_name() << "\n";
  for (const auto& [name, tensor] : net.state_dict()) {
    out << "state " << name << " " << grapnel::name(tensor.dtype()) << " ";
    for (std::size_t i = 0; i < tensor.rank(); ++i) out << (i ? "x" : "") << tensor.shape()[i];
    out << (tensor.rank() ? "" : "scalar") << "\n";
  }
  return out.str();
}

}  // namespace

TEST_CASE("networks: modules and state are torchvision's") {
  default_generator() = Generator(1);
  nn::SkipInit skip;
  CHECK(nn::model_names() == std::vector<std::string>{"resnet18", "resnet34", "vgg16"});
  for (const std::string& name : nn::model_names()) CHECK(listing(*nn::make_model(name)) == golden(name));
  CHECK(default_generator().offset() == 0);
}

TEST_CASE("networks: summaries at 224 x 224" * testing::not_on_model("minutes")) {
  struct Expected {
    const char* name;
    std::int64_t parameters, multiply_adds;
    std::size_t convolutions;
  };
  // Parameters and GFLOPs are those that torchvision documents for its weights.
  for (const auto& [name, parameters, multiply_adds, convolutions] :
       {Expected{"resnet18", 11689512, 1814073344, 20}, Expected{"resnet34", 21797672, 3663761408, 36},
        Expected{"vgg16", 138357544, 15470264320, 13}}) {
    nn::SkipInit skip;
    auto net = nn::make_model(name);
    const nn::Summary summary = nn::summarize(*net, {1, 3, 224, 224});
    CHECK(summary.parameters == parameters);
    CHECK(summary.multiply_adds == multiply_adds);
    std::int64_t total = 0;
    std::size_t found = 0;
    for (const nn::LayerSummary& layer : summary.layers) {
      total += layer.parameters;
      found += layer.type == "Conv2d";
    }
    CHECK(total == parameters);
    CHECK(found == convolutions);
    CHECK(summary.layers.back().output == Shape{1, 1000});
  }
}

TEST_CASE("networks: a summary lists calls in execution order and leaves the net as it was" *
          testing::not_on_model("minutes")) {
  auto net = nn::resnet18({.num_classes = 10, .width = 4});
  net->at("layer2").eval();
  std::vector<bool> modes;
  for (const auto& [path, module] : net->named_modules()) modes.push_back(module->training());
  const nn::Summary summary = nn::summarize(*net, {2, 3, 64, 48});
  std::vector<std::string> first;
  for (std::size_t i = 0; i < 12; ++i) first.push_back(summary.layers[i].name);
  CHECK(first == std::vector<std::string>{"conv1", "bn1", "relu", "maxpool", "layer1.0.conv1", "layer1.0.bn1",
                                          "layer1.0.relu", "layer1.0.conv2", "layer1.0.bn2", "layer1.0.relu",
                                          "layer1.1.conv1", "layer1.1.bn1"});
  CHECK(summary.layers[0].output == Shape{2, 4, 32, 24});
  CHECK(summary.layers[0].settings == "3, 4, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False");
  CHECK(summary.layers[0].multiply_adds == 2 * 4 * 32 * 24 * (3 * 7 * 7));
  CHECK(summary.layers[1].parameters == 8);
  CHECK(summary.layers.back().multiply_adds == 2 * 10 * 32);
  std::vector<bool> modes_after;
  for (const auto& [path, module] : net->named_modules()) {
    modes_after.push_back(module->training());
    CHECK(module->hook_names().forward.empty());
  }
  CHECK(modes_after == modes);
  CHECK(net->state_dict()[5].second.item() == 0);  // bn1.num_batches_tracked

  const std::string table = nn::to_string(summary);
  CHECK(table.starts_with(
      "layer                  type               output          parameters  multiply-adds\n"
      "conv1                  Conv2d             (2, 4, 32, 24)         588        903,168\n"));
  CHECK(table.ends_with(
      "total                                                         45,102      1,780,352\n"));
}

TEST_CASE("networks: a layer that runs twice counts its parameters once") {
  auto shared = std::make_shared<nn::Linear>(6, 6);
  nn::Sequential net({shared, shared});
  const nn::Summary summary = nn::summarize(net, {1, 6});
  REQUIRE(summary.layers.size() == 2);
  CHECK(summary.layers[0].parameters == 42);
  CHECK(summary.layers[1].parameters == 0);
  CHECK(summary.parameters == 42);
  CHECK(summary.multiply_adds == 72);
}

TEST_CASE("networks: options" * testing::not_on_model("minutes")) {
  auto net = nn::make_model("resnet34", {.num_classes = 7, .width = 4});
  CHECK(nn::num_classes_of("resnet34", net->state_dict()) == 7);
  CHECK(nn::width_of("resnet34", net->state_dict()) == 4);
  const auto narrow_vgg = nn::make_model("vgg16", {.num_classes = 5, .width = 2});
  CHECK(nn::width_of("vgg16", narrow_vgg->state_dict()) == 2);
  CHECK(narrow_vgg->at("classifier.3").settings() == "in_features=128, out_features=128, bias=True");
  NoGrad no_grad;
  CHECK((*net)(Tensor::zeros({2, 3, 33, 47})).shape() == Shape{2, 7});
  CHECK(net->at("relu").settings() == "");
  CHECK(nn::resnet18({.width = 2, .inplace = true})->at("layer1.0.relu").settings() == "inplace=True");
}

TEST_CASE("networks: only with `inplace` is an activation overwritten" * testing::not_on_model("minutes")) {
  const auto overwritten = [](bool inplace) {
    auto net = nn::resnet18({.num_classes = 3, .width = 2, .inplace = inplace});
    std::vector<std::pair<Tensor, std::uint64_t>> outputs;
    for (const auto& [path, module] : net->named_modules())
      module->register_forward_hook([&](nn::Module&, const Tensors&, const Tensors& output) {
        outputs.emplace_back(output[0], output[0].version());
        return std::nullopt;
      });
    (*net)(Tensor::ones({2, 3, 64, 64}));
    std::size_t count = 0;
    for (const auto& [output, version] : outputs) count += output.version() != version;
    return count;
  };
  CHECK(overwritten(false) == 0);
  // Of the stem bn1; of each block bn1, and bn2 with its sum.
  CHECK(overwritten(true) == 1 + 8 * 2);
}

TEST_CASE("networks: what a state tells, and what it cannot") {
  const nn::NamedTensors vgg{{"classifier.6.weight", Tensor::zeros({5, 2})}};
  CHECK(nn::num_classes_of("vgg16", vgg) == 5);
  CHECK_THROWS_WITH_AS(nn::num_classes_of("resnet18", vgg),
                       "the state has no \"fc.weight\", so it is not one of a resnet18", NameError);
  CHECK_THROWS_AS(nn::width_of("resnet18", vgg), NameError);
  CHECK_THROWS_AS(nn::width_of("vgg16", vgg), NameError);
  CHECK(nn::default_cam_layer("resnet18") == "layer4");
  CHECK(nn::default_cam_layer("resnet34") == "layer4");
  CHECK(nn::default_cam_layer("vgg16") == "features.29");
  CHECK_THROWS_WITH_AS(nn::make_model("resnet50"),
                       "no model \"resnet50\"; there are resnet18, resnet34, vgg16", NameError);
}

TEST_CASE("networks: starts are torchvision's") {
  default_generator() = Generator(3);
  auto net = nn::resnet18({.num_classes = 100, .width = 16});
  for (const auto& [path, module] : net->named_modules()) {
    if (const auto* conv = dynamic_cast<nn::Conv2d*>(module)) {
      const double n = static_cast<double>(conv->weight.numel());
      const double variance = 2 / (n / static_cast<double>(conv->weight.size(1)));
      // The mean square of n normal numbers is the variance (1 +- sqrt(2/n)): six standard deviations.
      CHECK(std::abs(mean(conv->weight * conv->weight).item() / variance - 1) < 6 * std::sqrt(2 / n));
    }
    if (const auto* norm = dynamic_cast<nn::BatchNorm2d*>(module)) {
      CHECK(sum(norm->weight).item() == static_cast<double>(norm->weight.numel()));
      CHECK(amax(abs(norm->bias)).item() == 0);
    }
  }
  const double bound = 1 / std::sqrt(128.0);
  const double largest = amax(abs(dynamic_cast<nn::Linear&>(net->at("fc")).weight)).item();
  CHECK(largest <= bound);
  CHECK(largest > 0.99 * bound);
}

TEST_CASE("networks: a gradient reaches every parameter" * testing::not_on_model("minutes")) {
  auto net = nn::resnet34({.num_classes = 3, .width = 2});
  const Tensor x = [] {
    Generator generator(4);
    return Tensor::randn({2, 3, 64, 64}, generator);
  }();
  sum((*net)(x)).backward();
  for (const auto& entry : net->named_parameters()) {
    CAPTURE(entry.first);
    CHECK(entry.second.grad().defined());
  }
}

TEST_CASE("init: the networks start as torchvision's") {
  default_generator() = Generator(14);
  // Convolutions: normal of variance 2 / fan_out. Linear layers: VGG16's normal of deviation 0.01 and no
  // bias, a ResNet's PyTorch's default, variance 1 / (3 fan_in).
  for (const char* name : {"resnet18", "resnet34", "vgg16"}) {
    const auto net = nn::make_model(name, {.num_classes = 10, .width = 4});
    const bool vgg = std::string(name) == "vgg16";
    int seen = 0;
    for (const auto& [key, module] : net->named_modules()) {
      const std::string path = std::string(name) + "." + key;
      CAPTURE(path);
      Tensor weight, bias;
      double variance = 0;
      if (const auto* conv = dynamic_cast<nn::Conv2d*>(module)) {
        weight = conv->weight, bias = conv->bias;
        variance = 2.0 / static_cast<double>(weight.size(0) * weight.size(2) * weight.size(3));
      } else if (const auto* linear = dynamic_cast<nn::Linear*>(module)) {
        weight = linear->weight, bias = linear->bias;
        variance = vgg ? 1e-4 : 1 / (3.0 * static_cast<double>(weight.size(1)));
      } else {
        continue;
      }
      ++seen;
      double total = 0, squares = 0;
      for (const double w : weight.to_vector<double>()) total += w, squares += w * w;
      const double n = static_cast<double>(weight.numel());
      CHECK(std::abs(total / n) < 6 * std::sqrt(variance / n));
      CHECK(std::abs(squares / n / variance - 1) < 6 * std::sqrt(2 / n));
      if (vgg)
        for (const double b : bias.to_vector<double>()) CHECK(b == 0);
    }
    CHECK(seen == (vgg ? 16 : std::string(name) == "resnet18" ? 21 : 37));
  }
}

TEST_CASE("init: a seed gives the same network on any number of threads") {
  const int before = num_threads();
  std::vector<std::vector<float>> states;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    default_generator() = Generator(15);
    states.emplace_back();
    for (const auto& [name, tensor] :
         nn::make_model("resnet18", {.num_classes = 10, .width = 8})->state_dict())
      for (const float value : tensor.to_vector<float>()) states.back().push_back(value);
  }
  set_num_threads(before);
  CHECK(states[0] == states[1]);
  CHECK(states[0] == states[2]);
}
