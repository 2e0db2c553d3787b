// Micro-kernels on sixteen lanes, 28 of 32 registers hold sums.
#include "grapnel/kernels/gemm/tile.h"

namespace grapnel::kernels {

constinit const MicroKernel avx512_microkernel = make_microkernel<14, 2>();

}  // namespace grapnel::kernels
