// Running a convolution over elements, for recipes. Internal to the engine.
#pragma once

#include "grapnel/engine/backend.h"

namespace grapnel {

/// out = the epilogue of the forward pass over `in`, or of the input gradient; both dense channels last. What
/// packing made of the weight is kept from the second use on.
template <class T>
void convolve(const kernels::Conv2d& shape, kernels::ConvPass pass, T* out, const T* in, const Tensor& weight,
              const kernels::Epilogue<T>& epilogue);

}  // namespace grapnel
