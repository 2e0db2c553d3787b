// Every operation of the engine on a CUDA device, forward and backward, against the CPU; then whole networks
// with their hooks, and training steps. Runs twice: on the first GPU, if there is one (test_cuda), and on the
// model of one (test_cuda_host, see ../cuda_host).
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/adam.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/sgd.h"

using namespace grapnel;

namespace {

const Device kCuda = Device::cuda();

/// Begins every case; CTest reports it as skipped then.
#define NEEDS_DEVICE()                  \
  if (cuda_device_count() == 0) {       \
    MESSAGE("skipped: no CUDA device"); \
    return;                             \
  }

/// ||got - expected|| / ||expected||.
double distance(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.shape() == expected.shape());
  const auto a = got.to_vector<double>(), b = expected.to_vector<double>();
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm == 0 ? difference : std::sqrt(difference / norm);
}

struct Case {
  const char* name;
  std::vector<Shape> inputs;
  std::function<Tensor(const Tensors&)> operation;
};

/// Gives a tensor beside x.
Tensor index_like(const Tensor& x, std::initializer_list<std::int64_t> values, const Shape& shape) {
  return Tensor::from<std::int64_t>(values, shape).to(x.device());
}

const std::vector<Case>& cases() {
  const Shape map{2, 3, 5, 4};
  static const std::vector<Case> all = {
      {"add", {map, {3, 1, 1}}, [](const Tensors& x) { return x[0] + x[1]; }},
      {"sub", {map, {4}}, [](const Tensors& x) { return x[0] - x[1]; }},
      {"mul", {map, map}, [](const Tensors& x) { return x[0] * x[1]; }},
      {"div", {map, map}, [](const Tensors& x) { return x[0] / (x[1] * x[1] + 1); }},
      {"pow", {map}, [](const Tensors& x) { return pow(x[0] * x[0] + 1, 1.5); }},
      {"maximum", {map, map}, [](const Tensors& x) { return maximum(x[0], x[1]); }},
      {"exp", {map}, [](const Tensors& x) { return exp(x[0]); }},
      {"log", {map}, [](const Tensors& x) { return log(x[0] * x[0] + 1); }},
      {"sqrt", {map}, [](const Tensors& x) { return sqrt(x[0] * x[0] + 1); }},
      {"abs", {map}, [](const Tensors& x) { return abs(x[0]); }},
      {"reciprocal", {map}, [](const Tensors& x) { return reciprocal(x[0] * x[0] + 1); }},
      {"clamp", {map}, [](const Tensors& x) { return clamp(x[0], -0.5, 0.5); }},
      {"relu", {map}, [](const Tensors& x) { return relu(x[0]); }},
      {"leaky_relu", {map}, [](const Tensors& x) { return leaky_relu(x[0], 0.1); }},
      {"sigmoid", {map}, [](const Tensors& x) { return sigmoid(x[0]); }},
      {"tanh", {map}, [](const Tensors& x) { return tanh(x[0]); }},
      {"sum",
       {map},
       [](const Tensors& x) {
         return sum(x[0], {0, 2, 3});
       }},
      {"mean", {map}, [](const Tensors& x) { return mean(x[0], {1}, true); }},
      {"amax",
       {map},
       [](const Tensors& x) {
         return amax(x[0], {2, 3});
       }},
      {"var", {map}, [](const Tensors& x) { return var(x[0], {1}); }},
      {"matmul", {{2, 3, 5}, {5, 4}}, [](const Tensors& x) { return matmul(x[0], x[1]); }},
      {"linear", {{3, 5}, {4, 5}, {4}}, [](const Tensors& x) { return linear(x[0], x[1], x[2]); }},
      {"conv2d",
       {map, {4, 3, 3, 3}, {4}},
       [](const Tensors& x) {
         return conv2d(x[0], x[1], x[2], {.padding = {1, 1}});
       }},
      {"conv2d, stride 2, groups",
       {{2, 4, 7, 6}, {6, 2, 3, 3}},
       [](const Tensors& x) {
         return conv2d(x[0], x[1], {}, {.stride = {2, 2}, .padding = {1, 1}, .groups = 2});
       }},
      {"max_pool2d",
       {map},
       [](const Tensors& x) {
         return max_pool2d(x[0], {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}});
       }},
      {"avg_pool2d",
       {map},
       [](const Tensors& x) {
         return avg_pool2d(x[0], {.kernel = {2, 2}});
       }},
      {"adaptive_avg_pool2d", {map}, [](const Tensors& x) { return adaptive_avg_pool2d(x[0], 2, 3); }},
      {"interpolate",
       {map},
       [](const Tensors& x) { return interpolate(x[0], 7, 9, Resample::bilinear, false); }},
      {"batch_norm, training",
       {map, {3}, {3}},
       [](const Tensors& x) { return batch_norm(x[0], x[1], x[2], {}, {}, true, 0.1, 1e-5); }},
      {"batch_norm, evaluation",
       {map, {3}, {3}},
       [](const Tensors& x) {
         return batch_norm(x[0], x[1], x[2], x[0].new_zeros({3}), x[0].new_ones({3}), false, 0.1, 1e-5);
       }},
      {"softmax", {{3, 5}}, [](const Tensors& x) { return softmax(x[0], 1); }},
      {"log_softmax", {{3, 5}}, [](const Tensors& x) { return log_softmax(x[0], 0); }},
      {"cross_entropy",
       {{3, 5}},
       [](const Tensors& x) {
         return cross_entropy(x[0], index_like(x[0], {4, 0, 2}, {3}), {.label_smoothing = 0.1});
       }},
      {"mse_loss", {map, map}, [](const Tensors& x) { return mse_loss(x[0], x[1]); }},
      {"binary_cross_entropy_with_logits",
       {map},
       [](const Tensors& x) { return binary_cross_entropy_with_logits(x[0], x[0].new_ones(x[0].shape())); }},
      {"permute, reshape",
       {map},
       [](const Tensors& x) {
         return reshape(permute(x[0], {0, 2, 3, 1}), {8, 15});
       }},
      {"narrow, select", {map}, [](const Tensors& x) { return select(narrow(x[0], 2, 1, 3), 1, 2); }},
      {"unbind",
       {map},
       [](const Tensors& x) {
         const Tensors parts = unbind(x[0], 1);
         return parts[0] * parts[2];
       }},
      {"cat",
       {map, map},
       [](const Tensors& x) {
         return cat({x[0], x[1]}, 1);
       }},
      {"stack",
       {map, map},
       [](const Tensors& x) {
         return stack({x[0], x[1]}, 2);
       }},
      {"pad", {map}, [](const Tensors& x) { return pad(x[0], 1, 2, 0, 1); }},
      {"index_select",
       {map},
       [](const Tensors& x) {
         return index_select(x[0], 1, index_like(x[0], {2, 0, 2}, {3}));
       }},
      {"index_add",
       {map},
       [](const Tensors& x) {
         return index_add(6, 2, index_like(x[0], {5, 1, 1, 0, 3}, {5}), x[0]);
       }},
      {"gather",
       {{2, 3}},
       [](const Tensors& x) {
         return gather(x[0], 1, index_like(x[0], {2, 0}, {2, 1}));
       }},
      {"scatter_add",
       {{2, 3}},
       [](const Tensors& x) {
         return scatter_add(4, 1, index_like(x[0], {3, 0, 3, 1, 1, 1}, {2, 3}), x[0]);
       }},
      {"in place, through a view",
       {map},
       [](const Tensors& x) {
         const Tensor y = x[0] * 2;
         relu_(select(y, 1, 1));
         return y;
       }},
  };
  return all;
}

/// The result and the gradients of all inputs, on a device.
Tensors run(const Case& c, Device device) {
  Generator generator(5);
  Tensors inputs;
  for (const Shape& shape : c.inputs)
    inputs.push_back(Tensor::randn(shape, generator).to(device).set_requires_grad());
  const Tensor y = c.operation(inputs);
  const Tensor weights = Tensor::randn(y.shape(), generator).to(device);
  sum(y * weights).backward();
  Tensors results{y.detach()};
  for (const Tensor& input : inputs) results.push_back(input.grad());
  return results;
}

}  // namespace

TEST_CASE("every operation, forward and backward, as on the CPU") {
  NEEDS_DEVICE();
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    const Tensors expected = run(c, Device::cpu()), got = run(c, kCuda);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(got[i].device() == kCuda);
      CHECK(distance(got[i], expected[i]) < 2e-6);
    }
  }
}

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
