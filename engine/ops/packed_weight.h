// The weights of convolutions as kernels read them, for recipes. Internal to the engine.
#pragma once

#include <memory>

#include "grapnel/engine/backend.h"

namespace grapnel {

/// The weight in the order the kernel of a pass wants, kept from its second use on until the weight changes.
template <class T>
std::shared_ptr<Storage> packed_weight(const kernels::Conv2d& shape, kernels::ConvPass pass,
                                       const Tensor& weight);

}  // namespace grapnel
