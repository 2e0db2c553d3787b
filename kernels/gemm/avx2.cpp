// Micro-kernels on eight lanes, 12 of 16 registers hold sums.
#include "grapnel/kernels/gemm/tile.h"

namespace grapnel::kernels {
namespace {
typedef float Vec __attribute__((vector_size(32)));
}

constinit const MicroKernel avx2_microkernel = make_microkernel<Vec, 6, 2>();

}  // namespace grapnel::kernels
