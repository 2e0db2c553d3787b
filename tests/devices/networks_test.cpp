// A training step of whole networks on a device, in every precision. Runs as engine_test.cpp does.
#include "devices/networks.h"

#include "grapnel/nn/adam.h"
#include "grapnel/nn/models.h"

using namespace grapnel;
using namespace grapnel::testing;

namespace {

constexpr Precision kPrecisions[] = {Precision::fp32, Precision::tf32, Precision::bf16};

std::shared_ptr<nn::Module> model(const char* name, std::int64_t width) {
  return nn::make_model(name, {.num_classes = 5, .width = width});
}

}  // namespace

TEST_CASE("a small network, a training step in every precision") {
  NEEDS_DEVICE();
  for (const Precision precision : kPrecisions) check_step({small_net, {2, 3, 6, 6}, 5, false}, precision);
}

// By the running statistics: those of a batch magnify the errors of rounded operands where the last maps are
// of one pixel.
TEST_CASE("ResNet18, a training step in every precision") {
  NEEDS_DEVICE();
  const auto net = [] { return model("resnet18", 4); };
  for (const Precision precision : kPrecisions) check_step({net, {1, 3, 32, 32}, 18, true}, precision);
  check_step({net, {4, 3, 32, 32}, 18, false}, Precision::fp32);
}

TEST_CASE("ResNet34, a training step in every precision") {
  NEEDS_DEVICE();
  const auto net = [] { return model("resnet34", 4); };
  for (const Precision precision : kPrecisions) check_step({net, {1, 3, 32, 32}, 34, true}, precision);
}

TEST_CASE("VGG16, a training step in every precision") {
  NEEDS_DEVICE();
  const auto net = [] { return model("vgg16", 1); };
  for (const Precision precision : kPrecisions) check_step({net, {1, 3, 32, 32}, 16, true}, precision);
}

TEST_CASE("training steps follow the CPU's: running statistics, SGD, AdamW") {
  NEEDS_DEVICE();
  const auto run = [](DType type, Device device, bool adam) {
    Generator generator(3);
    default_generator() = Generator(2);
    const auto net = small_net();
    net->to(type);
    net->to(device);
    nn::SGD sgd(net->parameters(), {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-3});
    nn::AdamW adamw(net->parameters(), {.lr = 0.01, .eps = 1e-2});  // not the sign of what is nearly 0
    const Tensor x = Tensor::randn({2, 3, 6, 6}, generator).to(type).to(device);
    const Tensor labels = Tensor::from<std::int64_t>({2, 0}, {2}).to(device);
    for (int step = 0; step < 2; ++step) {
      net->zero_grad();
      cross_entropy((*net)(x), labels).backward();
      adam ? adamw.step() : sgd.step();
    }
    Tensors state;
    for (const auto& [name, tensor] : net->state_dict())
      if (is_floating(tensor.dtype())) {
        CHECK(tensor.device() == device);
        state.push_back(tensor);
      }
    return state;
  };
  for (const bool adam : {false, true}) {
    CAPTURE(adam);
    CHECK(distance(run(DType::float32, kCuda, adam), run(DType::float64, Device::cpu(), adam)) < 1e-6);
  }
}
