// The direct convolutions: every multiplication of the definition, none of it on zeros between pixels,
// through the micro-kernel of gemm/, without a matrix of patches in memory. Arguments as in FloatKernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/gemm/microkernel.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

std::size_t direct_packed_size(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass);
void direct_pack(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass, float* packed, const float* w,
                 const std::int64_t* w_strides);

/// One pass over packed weights: x to y or, for input_grad, dy to dx.
void direct_correlate(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass, float* out,
                      const float* in, const float* packed, const Epilogue<float>& epilogue);

/// Rows of the forward pass, counted through all images, into `out`, which begins with the first of them. By
/// this thread alone, and without residual or mask.
void direct_rows(const MicroKernel& kernel, const Conv2d& shape, Range rows, float* out, const float* in,
                 const float* packed, const Epilogue<float>& epilogue);

void direct_weight_grad(const MicroKernel& kernel, const Conv2d& shape, float* dw, const float* x,
                        const float* dy);

}  // namespace grapnel::kernels
