// Step 2: memory in the order in which it lies, and a block of it at a time.
//
// New: the innermost loop goes along a row of B and of C, so it uses whole lines of the cache, and its sums
// do not wait for each other: the compiler makes vectors of them by itself. And all rows of A meet one block
// of B before the next: it comes from memory once, and then from the first-level cache.
//
// What stands in the way: the rows of a block lie a whole row of B apart. Each is on another page of memory,
// and where that distance is a power of two they compete for the same few places of the cache. And C is
// loaded and stored for every single multiplication.
#include <algorithm>

#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::gemm_steps {
namespace {

// 32 KiB of B.
constexpr std::int64_t kDepth = 32, kColumns = 256;

}  // namespace

void blocked(const Sizes& sizes, float* c, const float* a, const float* b) {
  std::fill(c, c + sizes.m * sizes.n, 0.0f);
  for (std::int64_t j0 = 0; j0 < sizes.n; j0 += kColumns) {
    const std::int64_t columns = std::min(kColumns, sizes.n - j0);
    for (std::int64_t k0 = 0; k0 < sizes.k; k0 += kDepth) {
      const std::int64_t k1 = std::min(k0 + kDepth, sizes.k);
      for (std::int64_t i = 0; i < sizes.m; ++i) {
        float* c_row = c + i * sizes.n + j0;
        for (std::int64_t k = k0; k < k1; ++k) {
          const float factor = a[i * sizes.k + k];
          const float* b_row = b + k * sizes.n + j0;
          for (std::int64_t j = 0; j < columns; ++j) c_row[j] += factor * b_row[j];
        }
      }
    }
  }
}

}  // namespace grapnel::kernels::gemm_steps
