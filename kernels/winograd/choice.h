// Which tiles a convolution is worth.
#pragma once

#include "grapnel/kernels/winograd/winograd.h"

namespace grapnel::kernels {

enum class Tiling { none, two, four, six, few, rows };

/// The maps of all but none and few.
const WinogradMaps& winograd_maps(const Winograd& winograd, const Conv2d& shape, Tiling tiling);

/// none (the direct convolution), two, four or, but for weight gradients, few: what is expected to take least
/// time. Decided by the shape alone, so that the same bits come out of every run; README.md has the
/// measurements behind it.
Tiling best_tiling(const MicroKernel& kernel, const Winograd& winograd, const Conv2d& shape, ConvPass pass);

/// Whether tiles of rows take less time than the direct convolution, where they apply.
bool rows_pay(const WinogradMaps& maps, const Conv2d& shape);

}  // namespace grapnel::kernels
