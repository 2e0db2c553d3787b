// Micro-kernels on four lanes, what every 64-bit machine has.
#include "grapnel/kernels/gemm/tile.h"

namespace grapnel::kernels {

constinit const MicroKernel portable_microkernel = make_microkernel<4, 2>();

}  // namespace grapnel::kernels
