// Which size of tile a convolution is worth.
#pragma once

#include "grapnel/kernels/winograd/winograd.h"

namespace grapnel::kernels {

/// 2 or 4 outputs a side, or 0 for the direct convolution: what is expected to take least time. Decided by
/// the shape alone, so that the same bits come out of every run; README.md has the measurements behind it.
int best_tile(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass);

}  // namespace grapnel::kernels
