// Selecting and accumulating along one dimension by index, and argmax. One implementation serves every
// instruction set and both types: this is copying and a few additions.
#pragma once

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

void fill_index(FloatKernels<float>& table, Isa isa);
void fill_index(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
