// Softmax and its logarithm over the rows of a dense matrix. One implementation serves every instruction set
// and both types: the time goes into the exponential function of the C library.
#pragma once

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

void fill_softmax(FloatKernels<float>& table, Isa isa);
void fill_softmax(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
