// Micro-kernels on sixteen lanes, 28 of 32 registers hold sums.
#include "grapnel/kernels/gemm/tile.h"

namespace grapnel::kernels {
namespace {
typedef float Vec __attribute__((vector_size(64)));
}

constinit const MicroKernel avx512_microkernel = make_microkernel<Vec, 14, 2>();

}  // namespace grapnel::kernels
