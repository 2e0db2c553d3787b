#include "cuda_host/model.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <utility>

#include "cuda_host/block.h"
#include "cuda_host/capture.h"
#include "cuda_host/host_threads.h"

namespace grapnel::cuda_host {
namespace {

/// The block that this host thread runs, which the functions called by kernels are about.
constinit thread_local Block* running = nullptr;

/// What became of a launch, whichever host threads ran its blocks.
class Outcome {
 public:
  bool stopped() const { return stopped_; }
  void add(const Traffic& traffic) {
    const std::lock_guard lock(mutex_);
    traffic_ += traffic;
  }
  /// Of a block that could not go on. Of several the first counts: blocks begin in order, so it is the same
  /// however many run side by side.
  void stop(unsigned block, std::exception_ptr why) {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    if (why_ && block > block_) return;
    block_ = block;
    why_ = std::move(why);
  }
  /// When all have ended.
  Traffic result() const {
    if (why_) std::rethrow_exception(why_);
    return traffic_;
  }

 private:
  std::mutex mutex_;
  std::atomic<bool> stopped_ = false;
  unsigned block_ = 0;
  std::exception_ptr why_;
  Traffic traffic_;
};

/// Blocks of `launch` that nobody has begun, until there are none.
void run_blocks(const Launch& launch, std::atomic<unsigned>& next, Outcome& outcome) {
  unsigned b = 0;
  try {
    Multiprocessor on(launch.shared_bytes);
    Traffic traffic;
    while (!outcome.stopped() && (b = next++) < launch.grid.count()) {
      Block one(launch, b, on);
      running = &one;
      one.run();
      one.count(traffic);
      on.forget();
    }
    outcome.add(traffic);
  } catch (...) {
    outcome.stop(b, std::current_exception());
  }
}

}  // namespace

std::string place_of(const Site& site) {
  const std::string file = site.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line());
}

Traffic run(const char* kernel, Dim grid, Dim block, std::size_t shared_bytes,
            const std::function<void()>& body) {
  const auto refuse = [&](const std::string& what) { throw Fault(std::string(kernel) + ": " + what); };
  if (block.count() == 0 || block.count() > 1024)
    refuse("a block of " + std::to_string(block.count()) + " threads, expected 1 to 1024");
  if (grid.count() == 0) refuse("a grid of no blocks");
  if (shared_bytes > kMaxShared)
    refuse(std::to_string(shared_bytes) + " bytes of shared memory, expected at most " +
           std::to_string(kMaxShared));
  static std::mutex stream;
  const std::lock_guard lock(stream);  // launches follow one another
  const unsigned threads = std::min(host_threads(), grid.count());
  const Launch launch{kernel,       grid, block,
                      shared_bytes, body, static_cast<std::uint32_t>(++activity().launches),
                      threads == 1};
  std::atomic<unsigned> next = 0;
  Outcome outcome;
  run_together(threads - 1, [&] { run_blocks(launch, next, outcome); });
  const Traffic traffic = outcome.result();
  if (CountTraffic::on()) note_traffic(kernel, block.count(), shared_bytes, traffic);
  return traffic;
}

Dim thread_index() {
  return running->current().index;
}

Dim block_index() {
  return running->index();
}

Dim block_dim() {
  return running->size();
}

Dim grid_dim() {
  return running->grid();
}

unsigned lane() {
  return running->current().number % kWarpSize;
}

void wait_for_previous() {
  running->current().after_previous = true;
}

void launch_next(const Site& site) {
  if (!running->current().after_previous)
    fault("launch_next without wait_for_previous: two launches before the next one would still run", site);
}

void* reach(Space space, std::uintptr_t at, std::size_t bytes, std::size_t alignment, Access access,
            const Site& site) {
  return running->reach(space, at, bytes, alignment, access, site);
}

void wait_for_block(const Site& site) {
  running->wait(Thread::Wait::block, site);
}

void wait_for_named(unsigned barrier, unsigned count, const Site& site) {
  if (barrier == 0 || barrier > 15) fault("barrier " + std::to_string(barrier) + ", expected 1 to 15", site);
  if (count == 0 || count % kWarpSize)
    fault("a barrier of " + std::to_string(count) + " threads, expected whole warps", site);
  running->current().barrier = barrier;
  running->current().count = count;
  running->wait(Thread::Wait::named, site);
}

const Given& exchange(std::uint32_t mask, std::span<const std::byte> mine, const Site& site) {
  Thread& me = running->current();
  me.mask = mask;
  me.given_bytes = mine.size();
  std::copy(mine.begin(), mine.end(), me.gives.begin());
  running->wait(Thread::Wait::warp, site);
  return running->given();
}

void copy_async(std::uintptr_t shared, std::uintptr_t global, std::size_t bytes, bool zeros,
                const Site& site) {
  if (bytes != 4 && bytes != 8 && bytes != 16)
    fault("an asynchronous copy of " + std::to_string(bytes) + " bytes, expected 4, 8 or 16", site);
  if (!zeros) reach(Space::global, global, bytes, bytes, Access::read, site);
  running->start({shared, global, bytes, zeros, site});
}

void commit_copies() {
  Thread& me = running->current();
  me.groups.push_back(std::exchange(me.copies, {}));
}

void wait_for_copies(unsigned left) {
  Thread& me = running->current();
  while (me.groups.size() > left) {
    const std::vector<Copy> group = std::move(me.groups.front());
    me.groups.erase(me.groups.begin());
    running->land(group);
  }
}

void fault(const std::string& what, const Site& site) {
  running->fault(what, site);
}

std::unique_ptr<Part>& part() {
  return running->part();
}

unsigned thread_number() {
  return running->current().number;
}

Clock& clock_of(unsigned thread) {
  return running->thread(thread).clock;
}

Crew& crew() {
  return running->crew();
}

Traffic& traffic() {
  return running->traffic();
}

void* reach_as(std::uint32_t member, const Clock& clock, Space space, std::uintptr_t at, std::size_t bytes,
               std::size_t alignment, Access access, const Site& site) {
  return running->reach_as(member, clock, space, at, bytes, alignment, access, site);
}

void wait_until(std::function<bool()> ready, std::function<std::string()> what, const Site& site) {
  Thread& me = running->current();
  me.ready = std::move(ready);
  me.waits_for = std::move(what);
  running->wait(Thread::Wait::condition, site);
}

void wait_a_while(std::function<bool()> ready, std::function<std::string()> what, const Site& site) {
  Thread& me = running->current();
  me.ready = std::move(ready);
  me.waits_for = std::move(what);
  me.asks = true;
  me.seen = running->progress();
  running->wait(Thread::Wait::a_while, site);
}

}  // namespace grapnel::cuda_host
