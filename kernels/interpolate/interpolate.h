// Bilinear and nearest resampling. One implementation serves every instruction set: pictures of a few
// channels leave wide vectors nothing to do. Read next: cpu.cpp for the weights, common/axis_map.h for the
// sums.
#pragma once

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

void fill_interpolate(FloatKernels<float>& table, Isa isa);
void fill_interpolate(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
