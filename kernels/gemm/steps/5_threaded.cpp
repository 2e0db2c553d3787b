// Step 5: every core.
//
// New: each thread makes a share of the rows of C by step 4. Nothing is shared but what all read, so no
// thread waits for another, and every sum is made in the same order whatever their number: the same bits.
//
// What stands in the way: every thread packs all of B; and the rows of A that a tile reads lie a row of A
// apart, which is for the cache what step 2 said of B.
#include <algorithm>

#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/gemm/gemm.h"
#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::gemm_steps {

void threaded(const Sizes& sizes, float* c, const float* a, const float* b) {
  const std::int64_t tile = chosen_microkernel().max_rows;
  parallel_for(ceil_div(sizes.m, tile), 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t row = begin * tile, rows = std::min(end * tile, sizes.m) - row;
    vectorised({rows, sizes.n, sizes.k}, c + row * sizes.n, a + row * sizes.k, b);
  });
}

}  // namespace grapnel::kernels::gemm_steps
