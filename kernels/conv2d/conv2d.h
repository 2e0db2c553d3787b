// Convolution and its two gradients: see Conv2d in kernels.h. Read next: correlation.h.
#pragma once

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

void fill_conv2d(FloatKernels<float>& table, Isa isa);
void fill_conv2d(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
