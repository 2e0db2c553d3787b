// A training step of whole networks on a device, against the CPU in float64, in every precision.
#pragma once

#include <cmath>
#include <functional>
#include <memory>

#include "devices/device_testing.h"
#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/layers.h"
#include "grapnel/nn/sgd.h"

namespace grapnel::testing {

/// relu(bn(conv(x)) + x)
struct Residual : nn::Module {
  explicit Residual(std::int64_t channels)
      : conv(register_module("conv", std::make_shared<nn::Conv2d>(channels, channels, std::pair{3, 3},
                                                                  Conv2dOptions{.padding = {1, 1}}, false))),
        norm(register_module("bn", std::make_shared<nn::BatchNorm2d>(channels))) {}
  std::string type_name() const override { return "Residual"; }
  std::shared_ptr<nn::Conv2d> conv;
  std::shared_ptr<nn::BatchNorm2d> norm;

 protected:
  Tensor forward(const Tensor& x) override { return relu((*norm)((*conv)(x)) + x); }
};

/// Of every kind of layer one, and channels enough for every kernel: Hopper's want 32.
inline std::shared_ptr<nn::Module> small_net() {
  const auto conv = [](std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride) {
    return std::make_shared<nn::Conv2d>(
        in, out, std::pair{kernel, kernel},
        Conv2dOptions{.stride = {stride, stride}, .padding = {kernel / 2, kernel / 2}}, false);
  };
  return std::make_shared<nn::Sequential>(std::vector<std::shared_ptr<nn::Module>>{
      conv(3, 32, 3, 1), std::make_shared<nn::BatchNorm2d>(32), std::make_shared<nn::ReLU>(),
      std::make_shared<nn::MaxPool2d>(Pool2dOptions{.kernel = {2, 2}}), std::make_shared<Residual>(32),
      conv(32, 40, 3, 2), std::make_shared<nn::BatchNorm2d>(40), std::make_shared<nn::ReLU>(),
      conv(40, 40, 1, 1), std::make_shared<nn::AdaptiveAvgPool2d>(1, 1), std::make_shared<nn::Flatten>(),
      std::make_shared<nn::Linear>(40, 5)});
}

struct Training {
  std::function<std::shared_ptr<nn::Module>()> make;
  Shape pictures;  // (N, 3, H, W)
  int products;    // layers that multiply, one behind the other
  bool frozen;     // batch norm by running statistics
};

/// What a step made: logits, gradients of all parameters, their changes, running statistics.
struct Step {
  Tensors logits, gradients, changes, statistics;
};

inline Step train(const Training& training, DType type, Device device) {
  default_generator() = Generator(2);
  Generator generator(3);
  const auto net = training.make();
  net->train(!training.frozen);
  net->to(type);
  net->to(device);
  const Tensor x = Tensor::randn(training.pictures, generator).to(type).to(device);
  const Tensor labels = Tensor::arange(x.size(0), DType::int64).to(device);
  nn::SGD sgd(net->parameters(), {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-3});
  Step step;
  const Tensor logits = (*net)(x);
  cross_entropy(logits, labels).backward();
  step.logits = {logits.detach()};
  Tensors before;
  for (const Tensor& parameter : net->parameters()) {
    step.gradients.push_back(parameter.grad());
    before.push_back(parameter.detach().clone().to(Device::cpu()));
  }
  sgd.step();
  for (const Tensor& parameter : net->parameters())
    step.changes.push_back(parameter.detach().to(Device::cpu()) - before[step.changes.size()]);
  for (const auto& [name, buffer] : net->named_buffers())
    if (is_floating(buffer.dtype())) step.statistics.push_back(buffer);
  return step;
}

/// By which share a product errs: of operands with 8 or 11 bits by some 2^-8 or 2^-11, of floats, whose sums
/// of some hundred terms are rounded, by 2^-21.
inline double error_of_product(Precision precision) {
  return precision == Precision::fp32 ? 0x1p-21 : precision == Precision::tf32 ? 0x1p-11 : 0x1p-8;
}
/// Twice what so many behind each other are wrong by: their errors add as independent ones do.
inline double error_of_products(int layers, Precision precision) {
  return 2 * error_of_product(precision) * std::sqrt(layers);
}

inline void check_step(const Training& training, Precision precision) {
  CAPTURE(static_cast<int>(precision));
  const Step expected = train(training, DType::float64, Device::cpu());
  set_precision(precision);
  const Step got = train(training, DType::float32, kCuda);
  set_precision(Precision::fp32);
  const double forward = error_of_products(training.products, precision);
  // If activations err by a share of e, about as large a share of the ReLUs and maxima stands on the other
  // side, each of which takes its gradient along: sqrt(e) of the norm. With errors of 1e-6 of some thousand
  // none does.
  const double backward = precision == Precision::fp32 ? 10 * forward : std::sqrt(forward);
  const double error = distance(got.logits, expected.logits);
  CHECK(error < forward);
  CHECK(error >
        (precision == Precision::fp32 ? 0 : error_of_product(precision) / 16));  // it is this precision
  CHECK(distance(got.gradients, expected.gradients) < backward);
  // Parameters are rounded to 2^-24, and change by a hundredth.
  CHECK(distance(got.changes, expected.changes) < backward + 100 * 0x1p-24);
  CHECK(distance(got.statistics, expected.statistics) < forward);
}

}  // namespace grapnel::testing
