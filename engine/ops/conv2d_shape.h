// A convolution as the kernels want it described. For those who look behind `conv2d`.
#pragma once

#include "grapnel/engine/ops.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel {

/// Of x (N,C,H,W) and weight (K,C/groups,R,S), output sizes included. Throws ShapeError, in `name`'s words,
/// if they do not fit each other.
kernels::Conv2d describe_conv2d(const char* name, const Shape& x, const Shape& weight,
                                const Conv2dOptions& options);

}  // namespace grapnel
