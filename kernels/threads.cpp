// The number of threads the kernels use.
#include <atomic>
#include <thread>

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {
namespace {

constinit std::atomic<int> g_threads{0};  // 0: not chosen yet

int all_cores() noexcept {
  const unsigned cores = std::thread::hardware_concurrency();  // those this process may run on
  return cores > 0 ? static_cast<int>(cores) : 1;
}

}  // namespace

void set_num_threads(int threads) noexcept {
  g_threads = threads > 0 ? threads : all_cores();
}

int num_threads() noexcept {
  const int chosen = g_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return chosen;
  set_num_threads(0);
  return g_threads.load(std::memory_order_relaxed);
}

}  // namespace grapnel::kernels
