// Bounds for gradients, between backward and step.
#pragma once

#include "grapnel/engine/tensor.h"

namespace grapnel::nn {

/// Scales all gradients together by max_norm / (norm + 1e-6) where that is below 1, and returns the L2 norm
/// of them all before. Parameters without a gradient do not count. Throws Error if max_norm is not at least 0
/// or, if asked to, naming the first gradient at fault and changing nothing, if the norm is not finite.
double clip_grad_norm(const Tensors& parameters, double max_norm, bool error_if_nonfinite = false);

/// Clamps every element of every gradient to [-limit, limit]. Throws Error if limit is not at least 0.
void clip_grad_value(const Tensors& parameters, double limit);

}  // namespace grapnel::nn
