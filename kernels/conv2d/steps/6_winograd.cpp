// Step 6: fewer multiplications, ../../winograd.
//
// New: 4x4 outputs of a 3x3 kernel are made of 6x6 inputs with 36 multiplications a channel in place of 144.
// The additions before and after are few when there are many channels, and the products, summed over
// channels, are 36 matrix products, which are fast by all the steps before. So the speed of the definition
// may pass what the machine can multiply.
//
// What stands in the way: the additions, and weights that have grown from 9 numbers to 36. Small pictures
// with many channels are better off with tiles of 2x2, or without (../../winograd/choice.cpp).
#include "grapnel/kernels/conv2d/steps/steps.h"
#include "grapnel/kernels/gemm/gemm.h"
#include "grapnel/kernels/winograd/winograd.h"

namespace grapnel::kernels::conv2d_steps {
namespace {

const WinogradMaps& maps() {
  const MicroKernel& kernel = chosen_microkernel();
  if (&kernel == &avx512_microkernel) return winograd_avx512.four;
  if (&kernel == &avx2_microkernel) return winograd_avx2.four;
  return winograd_portable.four;
}

std::size_t tiles_size(const Conv2d& p) {
  return winograd_packed_size(chosen_microkernel(), maps(), p, ConvPass::forward);
}

void pack_tiles(const Conv2d& p, float* packed, const float* w) {
  const std::int64_t strides[] = {p.c * 9, 9, 3, 1};
  winograd_pack(chosen_microkernel(), maps(), p, ConvPass::forward, packed, w, strides);
}

}  // namespace

const Weights in_tiles{tiles_size, pack_tiles};

void winograd(const Conv2d& p, float* y, const float* x, const float* packed) {
  winograd_correlate(chosen_microkernel(), maps(), p, ConvPass::forward, y, x, packed, {});
}

}  // namespace grapnel::kernels::conv2d_steps
