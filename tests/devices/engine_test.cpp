// The engine on a CUDA device: copies, whole networks with their hooks, training steps. Runs twice: on the
// first GPU, if there is one (test_cuda), and on the model of one (test_cuda_host, see ../cuda_host).
#include <doctest/doctest.h>

#include <cmath>

#include "devices/device_testing.h"
#include "grapnel/engine/backward.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/adam.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/sgd.h"

using namespace grapnel;
using namespace grapnel::testing;

TEST_CASE("tensors move between devices, and gradients come back") {
  NEEDS_DEVICE();
  Generator generator(1);
  const Tensor x = Tensor::randn({2, 3, 4, 4}, generator).contiguous(MemoryFormat::channels_last);
  const Tensor leaf = x.clone().set_requires_grad();
  const Tensor there = leaf.to(kCuda);
  CHECK(there.device() == kCuda);
  CHECK(there.strides() == x.strides());
  sum(there * there).backward();
  CHECK(leaf.grad().device() == Device::cpu());
  CHECK(distance(leaf.grad(), x * 2) < 1e-6);
  CHECK(there.to_vector<float>() == x.to_vector<float>());
  CHECK(Tensor::full({}, 3, DType::int64, kCuda).item() == 3);

  const Tensor part = Tensor::zeros({4, 6}, DType::float32, kCuda);
  narrow(part, 1, 2, 3).copy_(Tensor::ones({4, 3}));  // strided there, dense here
  CHECK(sum(part).item() == 12);
  Tensor back = Tensor::zeros({3, 4}, DType::float64);
  back.copy_(transpose(narrow(part, 1, 1, 3), 0, 1));  // strided there, another type here
  CHECK(back.to_vector<double>() == std::vector<double>{0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1});
}

TEST_CASE("operands on different devices are told apart") {
  NEEDS_DEVICE();
  const Tensor here = Tensor::ones({2}), there = Tensor::ones({2}, DType::float32, kCuda);
  CHECK_THROWS_WITH_AS(here + there,
                       "add: operands on different devices, cpu and cuda:0; move one of them with Tensor::to",
                       DeviceError);
  CHECK_THROWS_WITH_AS(exp(there.to(DType::float64)),
                       "exp: expected float32, got float64 on cuda:0; convert it with Tensor::to", TypeError);
  CHECK_THROWS_AS(Tensor::ones({2}, DType::float32, Device::cuda(cuda_device_count())), DeviceError);
  CHECK(parse_device("cuda") == kCuda);
  CHECK_THROWS_AS(parse_device("cuda:x"), NameError);
}

#ifndef GRAPNEL_SANITIZED  // on the model, minutes
TEST_CASE("the networks, eager and fused, with every module's hooks in the same order") {
  NEEDS_DEVICE();
  for (const char* model : {"resnet18", "vgg16"}) {
    CAPTURE(model);
    Generator generator(3);
    const auto net = nn::make_model(model, {.num_classes = 5, .width = 4});
    net->eval();
    const Tensor x = Tensor::randn({1, 3, 32, 32}, generator);
    std::vector<std::string> order;
    std::vector<HookHandle> handles;
    for (const auto& [path, module] : net->named_modules())
      handles.push_back(module->register_forward_hook(
          [&order, path = path](nn::Module&, const Tensors&,
                                const Tensors& outputs) -> std::optional<Tensors> {
            order.push_back(path + " " + to_string(outputs[0].shape()));
            return std::nullopt;
          }));
    const Tensor expected = (*net)(x).detach();
    const std::vector<std::string> expected_order = std::exchange(order, {});
    net->to(kCuda);
    const Tensor got = (*net)(x.to(kCuda)).detach();
    CHECK(got.device() == kCuda);
    CHECK(distance(got, expected) < 2e-5);
    CHECK(order == expected_order);
    for (HookHandle& handle : handles) handle.remove();
    const InferenceMode inference;
    const Fusion fusion;
    CHECK(distance((*net)(x.to(kCuda)), expected) < 2e-5);
    CHECK_THROWS_AS((*net)(x), DeviceError);
  }
}

TEST_CASE("training steps follow the CPU's: gradients, running statistics, SGD, AdamW") {
  NEEDS_DEVICE();
  const auto train = [](Device device, bool adam) {
    Generator generator(3);
    default_generator() = Generator(2);
    const auto net = nn::make_model("resnet18", {.num_classes = 3, .width = 4});
    net->to(device);
    nn::SGD sgd(net->parameters(), {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-3});
    nn::AdamW adamw(net->parameters(), {.lr = 0.01, .eps = 1e-2});  // not the sign of what is nearly 0
    // Batch norm of few values is no measure: the last maps are 2x2.
    const Tensor x = Tensor::randn({2, 3, 48, 48}, generator).to(device);
    const Tensor labels = Tensor::from<std::int64_t>({2, 0}, {2}).to(device);
    for (int step = 0; step < (adam ? 1 : 2); ++step) {
      net->zero_grad();
      cross_entropy((*net)(x), labels).backward();
      adam ? adamw.step() : sgd.step();
    }
    return net->state_dict();
  };
  for (const bool adam : {false, true}) {
    CAPTURE(adam);
    const auto expected = train(Device::cpu(), adam), got = train(kCuda, adam);
    REQUIRE(got.size() == expected.size());
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (!is_floating(expected[i].second.dtype())) continue;
      CHECK(got[i].second.device() == kCuda);
      const double size = std::sqrt(sum(expected[i].second * expected[i].second).item());
      const double d = distance(got[i].second, expected[i].second) * (size == 0 ? 1 : size);
      difference += d * d;
      norm += size * size;
    }
    CHECK(std::sqrt(difference / norm) < 1e-3);
  }
}
#endif
