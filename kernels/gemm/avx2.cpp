// Micro-kernels on eight lanes, 12 of 16 registers hold sums.
#include "grapnel/kernels/gemm/tile.h"

namespace grapnel::kernels {

constinit const MicroKernel avx2_microkernel = make_microkernel<6, 2>();

}  // namespace grapnel::kernels
