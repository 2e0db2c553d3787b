// Whole networks with a full backward hook on every module, out of place and in place as torchvision's: the
// gradients are bit for bit those of the net without hooks, and the hooks see the same both ways.
#include "grapnel/engine/random.h"
#include "grapnel/nn/layers.h"
#include "grapnel/nn/models.h"
#include "nn/small_modules.h"
#include "support/device.h"

using namespace grapnel;
using namespace grapnel::testing;

namespace {

using Rows = std::vector<std::vector<double>>;

void append(Rows& rows, const Tensors& tensors) {
  auto& row = rows.emplace_back();
  for (const Tensor& tensor : tensors) {
    const auto values = tensor.defined() ? tensor.to_vector<double>() : std::vector<double>{};
    row.insert(row.end(), values.begin(), values.end());
  }
}

struct Result {
  Rows gradients;  // of the picture, then of every parameter
  Rows seen;       // by the hooks, call by call
};

Result run(const std::string& model, bool inplace, bool hooked, bool training) {
  default_generator() = Generator(5);
  const auto net = nn::make_model(model, {.num_classes = 3, .width = 4, .inplace = inplace});
  net->train(training);
  Result result;
  if (hooked)
    for (const auto& [path, module] : net->named_modules())
      module->register_full_backward_hook(
          [&result](nn::Module&, const Tensors& grad_inputs, const Tensors& grad_outputs) {
            append(result.seen, grad_inputs);
            append(result.seen, grad_outputs);
            return std::nullopt;
          });
  Generator generator(6);
  const Tensor x = Tensor::randn({2, 3, 40, 40}, generator).set_requires_grad();
  cross_entropy((*net)(x), Tensor::from<std::int64_t>({0, 2}, {2})).backward();
  append(result.gradients, {x.grad()});
  for (const Tensor& parameter : net->parameters()) append(result.gradients, {parameter.grad()});
  return result;
}

void check_network(const std::string& model, std::size_t parameters, std::size_t calls) {
  for (const bool training : {false, true}) {
    const Result reference = run(model, false, false, training), hooked = run(model, false, true, training);
    CHECK(reference.gradients.size() == 1 + parameters);
    CHECK(hooked.gradients == reference.gradients);
    CHECK(hooked.seen.size() == 2 * calls);
    CHECK(run(model, true, false, training).gradients == reference.gradients);
    const Result both = run(model, true, true, training);
    CHECK(both.gradients == reference.gradients);
    CHECK(both.seen == hooked.seen);
  }
}

}  // namespace

TEST_CASE("[hook-103] [better-1] ResNet18 with every module hooked equals the plain one, also in place" *
          not_on_model("minutes")) {
  check_network("resnet18", 62, 76);  // 68 modules, the eight ReLUs of the blocks twice
}

TEST_CASE("[hook-103] [better-1] VGG16 with every module hooked equals the plain one, also in place" *
          not_on_model("minutes")) {
  check_network("vgg16", 32, 42);
}

TEST_CASE("[hook-103] [better-1] ReLU(inplace) after a hooked convolution, and a residual sum") {
  struct Block : Labelled {
    Block(bool inplace, bool hooked) : Labelled("block"), overwrites(inplace) {
      Generator generator(4);
      conv = register_module(
          "conv", std::make_shared<nn::Conv2d>(2, 2, std::pair(3, 3), Conv2dOptions{.padding = {1, 1}}));
      for (const Tensor& parameter : conv->parameters())
        parameter.detach().copy_(Tensor::randn(parameter.shape(), generator));
      relu = register_module("relu", std::make_shared<nn::ReLU>(inplace));
      if (hooked)
        for (const auto& [path, module] : named_modules())
          module->register_full_backward_hook(
              [this](nn::Module&, const Tensors&, const Tensors& grad_outputs) {
                append(seen, grad_outputs);
                return std::nullopt;
              });
    }
    std::string type_name() const override { return "Block"; }
    Tensor forward(const Tensor& x) override {
      Tensor out = (*conv)((*relu)((*conv)(x)));
      out = overwrites ? add_(out, x) : out + x;
      return (*relu)(out);
    }
    bool overwrites;
    std::shared_ptr<nn::Conv2d> conv;
    std::shared_ptr<nn::ReLU> relu;
    Rows seen;
  };
  const auto run = [](bool inplace, bool hooked) {
    Block block(inplace, hooked);
    Generator generator(7);
    const Tensor x = Tensor::randn({1, 2, 4, 4}, generator).set_requires_grad();
    const Tensor y = block(x);
    sum(y * y).backward();
    Rows gradients;
    for (const Tensor& tensor : {x, block.conv->weight, block.conv->bias}) append(gradients, {tensor.grad()});
    return std::pair(gradients, block.seen);
  };
  const auto plain = run(false, false), hooked = run(false, true);
  CHECK(plain.second.empty());
  CHECK(hooked.second.size() == 5);  // the block, its convolution and its ReLU twice
  CHECK(hooked.first == plain.first);
  CHECK(run(true, false) == plain);
  CHECK(run(true, true) == hooked);
}
