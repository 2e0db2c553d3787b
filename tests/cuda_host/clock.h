// What happened before what among the threads of a block: vector clocks that share their common part.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace grapnel::cuda_host {

using Times = std::vector<std::uint32_t>;  // of each thread of the block

/// What one thread knows: everything that others did until `known`, and what it did itself until `now`.
struct Clock {
  std::shared_ptr<const Times> known;
  std::uint32_t now = 1;

  bool knows(std::uint32_t thread, std::uint32_t time) const { return known && (*known)[thread] >= time; }
};

/// Threads that meet: each brings what it knows, and all go on with the whole.
class Meeting {
 public:
  explicit Meeting(std::size_t threads) : times_(threads) {}

  void bring(std::uint32_t thread, Clock& clock) {
    if (clock.known && clock.known != last_)
      std::transform(times_.begin(), times_.end(), clock.known->begin(), times_.begin(),
                     [](std::uint32_t a, std::uint32_t b) { return std::max(a, b); });
    last_ = clock.known;
    times_[thread] = std::max(times_[thread], clock.now++);
  }
  std::shared_ptr<const Times> whole() const { return std::make_shared<const Times>(times_); }

 private:
  Times times_;
  std::shared_ptr<const Times> last_;  // brought already
};

}  // namespace grapnel::cuda_host
