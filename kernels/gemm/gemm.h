// C (M,N) = A (M,K) B (K,N) + bias: see Gemm in kernels.h. Read next: microkernel.h, then packed.cpp.
#pragma once

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/gemm/microkernel.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

void fill_gemm(FloatKernels<float>& table, Isa isa);
void fill_gemm(FloatKernels<double>& table, Isa isa);

/// The micro-kernel of the table that select_cpu chose; the portable one where that table has none.
const MicroKernel& chosen_microkernel() noexcept;

/// Any shape and strides, by blocks packed for the micro-kernel.
void packed_gemm(const MicroKernel& kernel, const Gemm& shape, float* c, const float* a, const float* b,
                 const float* bias);

/// Products so thin that packing B would cost more than the product: every element of B is read once, in
/// place. Returns false, doing nothing, where it does not apply.
bool thin_gemm(const MicroKernel& kernel, const Gemm& shape, float* c, const float* a, const float* b,
               const float* bias);

}  // namespace grapnel::kernels
