// ResNet18 and ResNet34 (He et al., CVPR 2016), module and parameter names as in torchvision.
#pragma once

#include <memory>

#include "grapnel/nn/layers.h"

namespace grapnel::nn {

struct NetOptions {
  std::int64_t num_classes = 1000;
  std::int64_t width = 64;  ///< channels of the first stage; all others are multiples of it
  bool inplace = false;     ///< ReLU and residual sums overwrite their input, as torchvision's do
};

/// conv1, bn1, relu, maxpool, layer1..layer4, avgpool, fc; x (N,3,H,W) -> logits (N, num_classes).
std::shared_ptr<Module> resnet18(const NetOptions& options = {});
std::shared_ptr<Module> resnet34(const NetOptions& options = {});

}  // namespace grapnel::nn
