// Splitting a range over threads. The only place that names OpenMP.
#pragma once

#include <cstdint>

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// Calls body(begin, end) on disjoint, contiguous parts of [0, count), one per thread at most, each at least
/// `grain` long (the last may be shorter). Runs inline when one part is enough. Nested calls run inline.
/// The parts depend on the thread count: a body must not let its result depend on where it is cut.
template <class Body>
void parallel_for(std::int64_t count, std::int64_t grain, const Body& body) {
  if (count <= 0) return;
  const std::int64_t wanted = (count + grain - 1) / (grain > 0 ? grain : 1);
  const int threads = static_cast<int>(wanted < num_threads() ? wanted : num_threads());
  if (threads <= 1) {
    body(std::int64_t{0}, count);
    return;
  }
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static)
#endif
  for (int t = 0; t < threads; ++t) body(count * t / threads, count * (t + 1) / threads);
}

}  // namespace grapnel::kernels
