#include "peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "grapnel/engine/device.h"
#include "grapnel/kernels/gemm/gemm.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::tools {
namespace {

constexpr int kDepth = 128;  // with the widest panel, 25 KiB of operands: within 32 KiB of L1
constexpr int kTiles = 4000;

/// kTiles full tiles, the same one again and again.
void multiply_and_add(const kernels::MicroKernel& kernel) {
  const std::int64_t rows = kernel.max_rows, panel = kernel.panel, offset = 0;
  constexpr std::size_t kAlign = 64 / sizeof(float);
  std::vector<float> a(rows * kDepth, 1.0f), b(kDepth * panel + kAlign, 1.0f), c(rows * panel);
  const std::size_t misplaced = reinterpret_cast<std::uintptr_t>(b.data()) / sizeof(float) % kAlign;
  const kernels::Tile tile{.rows = kernel.max_rows,
                           .columns = kernel.panel,
                           .segments = 1,
                           .depth = kDepth,
                           .a_offset = &offset,
                           .a = a.data(),
                           .a_row = kDepth,
                           .a_run = kernels::kRun * kDepth,
                           .a_col = 1,
                           .b = b.data() + (kAlign - misplaced) % kAlign,
                           .c = c.data(),
                           .c_row = panel,
                           .c_run = kernels::kRun * panel,
                           .init = nullptr,
                           .init_row = 0,
                           .init_run = 0,
                           .epilogue = nullptr,
                           .prefetch = a.data(),
                           .prefetch_step = 0};
  for (int i = 0; i < kTiles; ++i) kernel.tile(tile);
}

}  // namespace

double peak_gflops() {
  const kernels::MicroKernel& kernel = kernels::chosen_microkernel();
  const double flop = 2.0 * kernel.max_rows * kernel.panel * kDepth * kTiles * num_threads();
  double best = 0;
  for (int i = 0; i < 40; ++i) {  // the first tries also wake the threads and raise the clock
    const auto start = std::chrono::steady_clock::now();
    kernels::parallel_for(num_threads(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (; begin < end; ++begin) multiply_and_add(kernel);
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, flop / time.count() * 1e-9);
  }
  return best;
}

}  // namespace grapnel::tools
