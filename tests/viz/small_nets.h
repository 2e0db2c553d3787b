// The nets that golden/make_explain.py explains, with its weights and pictures, in float64.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/layers.h"
#include "grapnel/nn/resnet.h"
#include "support/formula.h"

namespace grapnel::testing {

using ModulePtr = std::shared_ptr<nn::Module>;

inline ModulePtr convolution(std::int64_t in, std::int64_t out) {
  return std::make_shared<nn::Conv2d>(in, out, std::pair(3, 3), Conv2dOptions{.padding = {1, 1}});
}
inline ModulePtr sequence(const std::vector<ModulePtr>& modules) {
  return std::make_shared<nn::Sequential>(modules);
}

/// Weights by formula, float64, eval.
inline ModulePtr prepared(ModulePtr net) {
  {
    const NoGrad no_grad;
    for (const auto& [name, tensor] : net->state_dict()) tensor.copy_(network_tensor(name, tensor.shape()));
  }
  net->to(DType::float64);
  net->eval();
  return net;
}

inline ModulePtr narrow_resnet(bool inplace = false) {
  return prepared(nn::resnet18({.num_classes = 10, .width = 8, .inplace = inplace}));
}

/// Built like VGG: convolutions with ReLUs, a pool that leaves 2x2, two linear layers.
inline ModulePtr plain_net(bool inplace = false) {
  const auto relu = [inplace] { return std::make_shared<nn::ReLU>(inplace); };
  const auto pool = std::make_shared<nn::MaxPool2d>(Pool2dOptions{});
  return prepared(sequence(
      {sequence({convolution(3, 6), relu(), pool, convolution(6, 8), relu(), convolution(8, 8), relu()}),
       std::make_shared<nn::AdaptiveAvgPool2d>(2, 2), std::make_shared<nn::Flatten>(),
       sequence({std::make_shared<nn::Linear>(32, 12), relu(), std::make_shared<nn::Dropout>(),
                 std::make_shared<nn::Linear>(12, 10)})}));
}

/// One ReLU runs three times, once right after a sum; CAM applies to its last map. `unused` never runs.
class Repeated : public nn::Module {
 public:
  Repeated() {
    conv1_ = register_module("conv1", convolution(3, 5));
    conv2_ = register_module("conv2", convolution(5, 5));
    relu_ = register_module("relu", std::make_shared<nn::ReLU>());
    fc_ = register_module("fc", std::make_shared<nn::Linear>(5, 10));
    register_module("unused", std::make_shared<nn::ReLU>());
  }
  std::string type_name() const override { return "Repeated"; }

 protected:
  Tensor forward(const Tensor& x) override {
    Tensor y = (*relu_)((*conv1_)(x));
    y = (*relu_)((*conv2_)(y) + y);
    y = (*relu_)((*conv2_)(y));
    return (*fc_)(mean(y, {2, 3}));
  }

 private:
  ModulePtr conv1_, conv2_, relu_, fc_;
};

inline ModulePtr repeated_net() {
  return prepared(std::make_shared<Repeated>());
}

inline Tensor picture_for(const std::string& net, std::int64_t height, std::int64_t width) {
  return reals(net + ".picture", {1, 3, height, width}, std::sqrt(3.0f)).to(DType::float64);
}

inline Tensor resnet_picture() {
  return picture_for("resnet", 96, 64);
}

}  // namespace grapnel::testing
