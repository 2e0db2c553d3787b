// Step 3: a block of B is copied before it is used.
//
// New: the block is a narrow panel in one piece of memory. It is read from beginning to end, which the
// processor foresees, and nothing competes for its places in the cache. The sums of a row over the panel are
// so few that C is touched only when they are done. The copy costs little: all rows of A use it.
//
// What stands in the way: a number of the panel is loaded for a single multiplication. And the compiler may
// use only what every processor of the kind has, on x86 four floats a register and a multiplication apart
// from its addition; the sums, an array, it leaves in memory.
#include <algorithm>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::gemm_steps {
namespace {

// 16 KiB of panel.
constexpr std::int64_t kWidth = 32, kDepth = 128;

}  // namespace

void pack_panel(const Sizes& sizes, const float* b, std::int64_t k0, std::int64_t depth, std::int64_t j0,
                std::int64_t width, float* panel) {
  const std::int64_t columns = std::min(width, sizes.n - j0);
  for (std::int64_t k = 0; k < depth; ++k, panel += width) {
    const float* row = b + (k0 + k) * sizes.n + j0;
    std::fill(std::copy(row, row + columns, panel), panel + width, 0.0f);
  }
}

void packed(const Sizes& sizes, float* c, const float* a, const float* b) {
  static thread_local Scratch<float> scratch;
  float* panel = scratch.get(kDepth * kWidth);
  std::fill(c, c + sizes.m * sizes.n, 0.0f);
  for (std::int64_t j0 = 0; j0 < sizes.n; j0 += kWidth) {
    const std::int64_t columns = std::min(kWidth, sizes.n - j0);
    for (std::int64_t k0 = 0; k0 < sizes.k; k0 += kDepth) {
      const std::int64_t depth = std::min(kDepth, sizes.k - k0);
      pack_panel(sizes, b, k0, depth, j0, kWidth, panel);
      for (std::int64_t i = 0; i < sizes.m; ++i) {
        const float* factors = a + i * sizes.k + k0;
        float sums[kWidth] = {};
        for (std::int64_t k = 0; k < depth; ++k) {
          for (std::int64_t j = 0; j < kWidth; ++j) sums[j] += factors[k] * panel[k * kWidth + j];
        }
        for (std::int64_t j = 0; j < columns; ++j) c[i * sizes.n + j0 + j] += sums[j];
      }
    }
  }
}

}  // namespace grapnel::kernels::gemm_steps
