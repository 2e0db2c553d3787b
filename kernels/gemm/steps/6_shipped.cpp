// Step 6: the product that Grapnel runs, ../packed.cpp.
//
// New: A is copied as well, in blocks that stay in the second-level cache, with rows off a power of two; and
// C is cut over threads in both directions, whichever way less is copied twice. It also takes any strides and
// a bias. What is left of the peak goes into those copies.
#include "grapnel/kernels/gemm/gemm.h"
#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::gemm_steps {

void shipped(const Sizes& sizes, float* c, const float* a, const float* b) {
  const auto [m, n, k] = sizes;
  packed_gemm(chosen_microkernel(), {m, n, k, k, 1, n, 1, n}, c, a, b, nullptr);
}

}  // namespace grapnel::kernels::gemm_steps
