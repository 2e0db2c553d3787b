// Micro-kernels on four lanes, what every 64-bit machine has.
#include "grapnel/kernels/gemm/tile.h"

namespace grapnel::kernels {
namespace {
typedef float Vec __attribute__((vector_size(16)));
}

constinit const MicroKernel portable_microkernel = make_microkernel<Vec, 4, 2>();

}  // namespace grapnel::kernels
