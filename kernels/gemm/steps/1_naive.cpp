// Step 1: the definition. Three loops, one sum at a time.
//
// What stands in the way: the innermost loop goes down a column of B, so every number it reads lies in
// another line of the cache, of which it uses 4 bytes in 64; and each addition waits for the one before it.
#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::gemm_steps {

void naive(const Sizes& sizes, float* c, const float* a, const float* b) {
  for (std::int64_t i = 0; i < sizes.m; ++i) {
    for (std::int64_t j = 0; j < sizes.n; ++j) {
      float sum = 0;
      for (std::int64_t k = 0; k < sizes.k; ++k) sum += a[i * sizes.k + k] * b[k * sizes.n + j];
      c[i * sizes.n + j] = sum;
    }
  }
}

}  // namespace grapnel::kernels::gemm_steps
