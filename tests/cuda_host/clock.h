// What happened before what among the threads of a block: vector clocks that share their common part.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace grapnel::cuda_host {

/// Of each thread of the block, then of what runs beside the threads; what is missing at the end is 0.
using Times = std::vector<std::uint32_t>;

inline void raise(Times& times, const Times& to) {
  if (times.size() < to.size()) times.resize(to.size());
  std::transform(to.begin(), to.end(), times.begin(), times.begin(),
                 [](std::uint32_t a, std::uint32_t b) { return std::max(a, b); });
}

/// What one thread knows: everything that others did until `known`, and what it did itself until `now`.
struct Clock {
  std::shared_ptr<const Times> known;
  std::uint32_t now = 1;

  bool knows(std::uint32_t thread, std::uint32_t time) const {
    return known && thread < known->size() && (*known)[thread] >= time;
  }
  void learn(const std::shared_ptr<const Times>& more) {
    if (!more || known == more) return;
    auto both = std::make_shared<Times>(*more);
    if (known) raise(*both, *known);
    known = std::move(both);
  }
};

/// Threads that meet: each brings what it knows, and all go on with the whole.
class Meeting {
 public:
  explicit Meeting(std::size_t threads) : times_(threads) {}

  void bring(std::uint32_t thread, Clock& clock) {
    if (clock.known && clock.known != last_) raise(times_, *clock.known);
    last_ = clock.known;
    note(thread, clock.now++);
  }
  void note(std::uint32_t thread, std::uint32_t time) {
    if (times_.size() <= thread) times_.resize(thread + 1);
    times_[thread] = std::max(times_[thread], time);
  }
  /// Ends it.
  std::shared_ptr<const Times> whole() { return std::make_shared<const Times>(std::move(times_)); }

 private:
  Times times_;
  std::shared_ptr<const Times> last_;  // brought already
};

}  // namespace grapnel::cuda_host
