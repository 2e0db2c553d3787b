// What the model of a GPU is told to do: done at once, or, as a stream does that captures, recorded. And how
// much that was, for tests.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace grapnel::cuda_host {

/// Launches and copies, in their order.
using Work = std::vector<std::function<void()>>;

/// From now on this thread's work is added to `work`; null: it is done.
void record_to(Work* work);
bool recording();
void do_or_record(std::function<void()> step);

/// Since the program began.
struct Activity {
  std::uint64_t launches = 0;     // that ran, by themselves or in a graph
  std::uint64_t allocations = 0;  // of global memory
  std::uint64_t captures = 0, replays = 0;
  std::uint64_t waits = 0;  // of the host, also for copies
};
Activity& activity();

}  // namespace grapnel::cuda_host
