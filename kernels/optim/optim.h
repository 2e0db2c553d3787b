// One step of an optimizer over a dense parameter, in one pass over memory and without a temporary. One
// implementation serves every instruction set: the time goes into reading and writing.
// The formulas stand in kernels.h.
#pragma once

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

void fill_optim(FloatKernels<float>& table, Isa isa);
void fill_optim(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
