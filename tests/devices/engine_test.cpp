// The engine on a CUDA device: copies, whole networks with their hooks. Runs twice: on the
// first GPU, if there is one (test_cuda), and on the model of one (test_cuda_host, see ../cuda_host).
#include <doctest/doctest.h>

#include "devices/device_testing.h"
#include "grapnel/engine/backward.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/models.h"

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
  for (const auto& [model, width] : {std::pair{"resnet18", 4}, {"resnet34", 4}, {"vgg16", 2}}) {
    CAPTURE(model);
    Generator generator(3);
    const auto net = nn::make_model(model, {.num_classes = 5, .width = width});
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
#endif
