// VGG16 without batch norm (Simonyan & Zisserman, ICLR 2015), module and parameter names as in torchvision.
#pragma once

#include <memory>

#include "grapnel/nn/resnet.h"

namespace grapnel::nn {

/// features (0..30), avgpool, classifier (0..6); x (N,3,H,W) -> logits (N, num_classes).
std::shared_ptr<Module> vgg16(const NetOptions& options = {});

}  // namespace grapnel::nn
