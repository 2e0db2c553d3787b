// Which tiles a convolution is worth.
#pragma once

#include "grapnel/kernels/winograd/winograd.h"

namespace grapnel::kernels {

enum class Tiling { none, two, four, six, few };

/// none (the direct convolution), two, four or, but for weight gradients, few: what is expected to take least
/// time. Decided by the shape alone, so that the same bits come out of every run; README.md has the
/// measurements behind it.
Tiling best_tiling(const MicroKernel& kernel, const FewKernel& few, const Conv2d& shape, ConvPass pass);

}  // namespace grapnel::kernels
