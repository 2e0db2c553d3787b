// Copying between any strides and element types. Read next: convert.h (what a conversion does), then cpu.cpp.
#pragma once

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

void fill_copy(Table& table, Isa isa);

}  // namespace grapnel::kernels
