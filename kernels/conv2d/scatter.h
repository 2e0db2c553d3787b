// Input gradient of a layer with few input channels, such as the first one of a network (3 channels).
//
// There the gather of correlate.cpp would fill 3 of 16 lanes. Instead each pixel of dy is multiplied by the
// weights of all taps and channels at once, columns (r, s, c), and the products are added where they belong
// in dx.
#pragma once

#include <cstddef>
#include <cstdint>

#include "grapnel/kernels/gemm/microkernel.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

bool scatter_applies(const MicroKernel& kernel, const Conv2d& shape);

std::size_t scatter_packed_size(const MicroKernel& kernel, const Conv2d& shape);
void scatter_pack(const MicroKernel& kernel, const Conv2d& shape, float* packed, const float* w,
                  const std::int64_t* w_strides);
void scatter_input_grad(const MicroKernel& kernel, const Conv2d& shape, float* dx, const float* dy,
                        const float* packed, const Epilogue<float>& epilogue);

}  // namespace grapnel::kernels
