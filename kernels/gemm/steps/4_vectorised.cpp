// Step 4: a tile of sums in the widest registers of this machine.
//
// New: several rows of C are summed together with the panel's columns, and their sums stay in registers. In
// tiles of r x c a multiplication costs 1/r + 1/c loads: the squarer the better, as far as the registers
// reach. With AVX-512 a tile is 14 rows x 32 columns, 28 of 32 registers; a step of its sum is 2 loads of B,
// 14 numbers of A and 28 instructions of 16 multiply-adds each. ../tile.h has the loop, written over a vector
// type and compiled once per instruction set; which one runs is decided when the program starts.
//
// What stands in the way: it is one core.
#include <algorithm>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/gemm/gemm.h"
#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::gemm_steps {
namespace {

constexpr std::int64_t kDepth = 256;

}  // namespace

void vectorised(const Sizes& sizes, float* c, const float* a, const float* b) {
  const MicroKernel& kernel = chosen_microkernel();
  static thread_local Scratch<float> scratch;
  float* panel = scratch.get(static_cast<std::size_t>(kDepth * kernel.panel));
  const std::int64_t no_offset = 0;
  Tile tile{};
  tile.segments = 1;
  tile.a_offset = &no_offset;
  tile.a_row = sizes.k;
  tile.a_run = kRun * sizes.k;
  tile.a_col = 1;
  tile.b = panel;
  tile.c_row = tile.init_row = sizes.n;
  tile.c_run = tile.init_run = kRun * sizes.n;
  for (std::int64_t j0 = 0; j0 < sizes.n; j0 += kernel.panel) {
    tile.columns = static_cast<int>(std::min<std::int64_t>(kernel.panel, sizes.n - j0));
    for (std::int64_t k0 = 0; k0 < sizes.k; k0 += kDepth) {
      tile.depth = std::min(kDepth, sizes.k - k0);
      pack_panel(sizes, b, k0, tile.depth, j0, kernel.panel, panel);
      for (std::int64_t i0 = 0; i0 < sizes.m; i0 += kernel.max_rows) {
        tile.rows = static_cast<int>(std::min<std::int64_t>(kernel.max_rows, sizes.m - i0));
        tile.a = a + i0 * sizes.k + k0;
        tile.c = c + i0 * sizes.n + j0;
        tile.init = k0 > 0 ? tile.c : nullptr;
        kernel.tile(tile);
      }
    }
  }
}

}  // namespace grapnel::kernels::gemm_steps
