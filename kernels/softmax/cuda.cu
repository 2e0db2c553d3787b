// Softmax on a GPU, a block a row, or a warp where rows are short; a row is read three times, mostly from the
// cache.
#include <cmath>
#include <limits>

#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;

constexpr unsigned kWarp = 32;

/// combine(...) of f(x[c]) over a row, known to all of its threads. The order in which two values meet must
/// not matter to `combine`.
template <unsigned threads, class T, class F, class Combine>
GRAPNEL_DEVICE T fold_row(std::int64_t columns, Global<const float> x, T identity, const F& f,
                          const Combine& combine) {
  T all = identity;
  for (std::int64_t c = thread().x % threads; c < columns; c += threads) all = combine(all, f(load(x, c)));
  for (unsigned distance = kWarp / 2; distance > 0; distance /= 2)
    all = combine(all, shuffle_xor(0xffffffffu, all, distance));
  if constexpr (threads > kWarp) {
    const Shared<T> warps = shared_memory<T>();
    sync_block();  // what an earlier fold left has been read
    if (lane() == 0) store(warps, thread().x / kWarp, all);
    sync_block();
    all = load(warps);
    for (unsigned warp = 1; warp < threads / kWarp; ++warp) all = combine(all, load(warps, warp));
  }
  return all;
}

template <unsigned threads, bool logarithm>
GRAPNEL_KERNEL(kBlockThreads)
softmax_kernel(std::int64_t rows, std::int64_t columns, Global<float> y, Global<const float> x) {
  after_previous();
  const std::int64_t row = element() / threads;
  if (row >= rows) return;
  x = x + row * columns;
  y = y + row * columns;
  const float largest = fold_row<threads>(
      columns, x, -std::numeric_limits<float>::infinity(), [](float v) { return v; },
      [](float a, float b) { return b > a ? b : a; });  // a NaN is in the sum
  const double sum = fold_row<threads>(
      columns, x, 0.0, [=](float v) { return static_cast<double>(std::exp(v - largest)); },
      [](double a, double b) { return a + b; });
  const float scale = static_cast<float>(1 / sum), log_sum = static_cast<float>(std::log(sum));
  for (std::int64_t c = thread().x % threads; c < columns; c += threads) {
    const float above = load(x, c) - largest;
    store(y, c, logarithm ? above - log_sum : std::exp(above) * scale);
  }
}

template <bool logarithm>
void run(std::int64_t rows, std::int64_t columns, float* y, const float* x) {
  constexpr std::int64_t kShort = 8 * kWarp;
  if (rows == 0 || columns == 0) return;
  if (columns <= kShort)
    launch_each("softmax", rows * kWarp, softmax_kernel<kWarp, logarithm>, rows, columns, y, x);
  else
    launch("softmax", {static_cast<unsigned>(rows)}, {kBlockThreads}, kBlockThreads / kWarp * sizeof(double),
           softmax_kernel<kBlockThreads, logarithm>, rows, columns, y, x);
}

}  // namespace

void fill_softmax_cuda(FloatKernels<float>& table) {
  table.softmax = run<false>;
  table.log_softmax = run<true>;
}

}  // namespace grapnel::kernels
