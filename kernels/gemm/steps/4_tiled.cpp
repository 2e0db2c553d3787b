// Step 4: a tile of sums, several rows of C at once.
//
// New: 4 rows x 8 columns of C are summed together, all in registers. A step of the sum loads 8 numbers of B
// and 4 of A and makes 32 multiplications of them; one row at a time it needed a load for each. With tiles of
// r x c the loads per multiplication are 1/r + 1/c: the squarer the better, as far as the registers reach.
//
// What stands in the way: the compiler may use only what every processor of the kind has, here four floats a
// register and a multiplication apart from its addition. This one has more.
#include <algorithm>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::gemm_steps {
namespace {

constexpr std::int64_t kRows = 4, kWidth = 8, kDepth = 256;

/// sums = rows of A times the panel.
void multiply_tile(const float* const* rows, const float* panel, std::int64_t depth, float* sums) {
  float tile[kRows][kWidth] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 4
    for (std::int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (std::int64_t j = 0; j < kWidth; ++j) tile[r][j] += rows[r][k] * panel[k * kWidth + j];
    }
  }
  std::copy(tile[0], tile[0] + kRows * kWidth, sums);
}

}  // namespace

void tiled(const Sizes& sizes, float* c, const float* a, const float* b) {
  static thread_local Scratch<float> scratch;
  float* panel = scratch.get(kDepth * kWidth);
  std::fill(c, c + sizes.m * sizes.n, 0.0f);
  for (std::int64_t j0 = 0; j0 < sizes.n; j0 += kWidth) {
    const std::int64_t columns = std::min(kWidth, sizes.n - j0);
    for (std::int64_t k0 = 0; k0 < sizes.k; k0 += kDepth) {
      const std::int64_t depth = std::min(kDepth, sizes.k - k0);
      pack_panel(sizes, b, k0, depth, j0, kWidth, panel);
      for (std::int64_t i0 = 0; i0 < sizes.m; i0 += kRows) {
        const std::int64_t last = std::min(kRows, sizes.m - i0) - 1;
        const float* rows[kRows];  // where there are fewer, the last one again
        for (std::int64_t r = 0; r < kRows; ++r) rows[r] = a + (i0 + std::min(r, last)) * sizes.k + k0;
        float sums[kRows * kWidth];
        multiply_tile(rows, panel, depth, sums);
        for (std::int64_t r = 0; r <= last; ++r) {
          for (std::int64_t j = 0; j < columns; ++j) c[(i0 + r) * sizes.n + j0 + j] += sums[r * kWidth + j];
        }
      }
    }
  }
}

}  // namespace grapnel::kernels::gemm_steps
