#include "cuda_host/model.h"

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "cuda_host/capture.h"
#include "cuda_host/fiber.h"

namespace grapnel::cuda_host {

std::string place_of(const Site& site) {
  const std::string file = site.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line());
}

namespace {

/// Global memory by address.
class Allocations {
 public:
  void* take(std::size_t bytes) {
    constexpr std::size_t kAlign = 256;  // as cudaMalloc's; what lies between two belongs to none
    auto data = std::make_unique<std::byte[]>(bytes + 2 * kAlign);
    const auto address = (reinterpret_cast<std::uintptr_t>(data.get()) + kAlign - 1) / kAlign * kAlign;
    blocks_.try_emplace(address, std::move(data), bytes);
    return reinterpret_cast<void*>(address);
  }
  void give(void* data) { blocks_.erase(reinterpret_cast<std::uintptr_t>(data)); }

  struct Place {
    Shadow* shadow = nullptr;  // null: in no allocation
    std::size_t at = 0;
  };
  Place find(std::uintptr_t address) {
    const auto after = blocks_.upper_bound(address);
    if (after == blocks_.begin()) return {};
    auto& [first, block] = *std::prev(after);
    return {&block.shadow, address - first};
  }

 private:
  struct Block {
    Block(std::unique_ptr<std::byte[]> memory, std::size_t bytes) : data(std::move(memory)), shadow(bytes) {}
    std::unique_ptr<std::byte[]> data;
    Shadow shadow;
  };
  std::map<std::uintptr_t, Block> blocks_;
};

Allocations& allocations() {
  static Allocations all;
  return all;
}

struct Copy {
  std::uintptr_t shared, global;
  std::size_t bytes;
  bool zeros;
  Site site;
};

struct Thread {
  Thread(unsigned at, Dim place, std::function<void()> body)
      : number(at), index(place), fiber(std::move(body)) {}

  enum class Wait : std::uint8_t { no, block, named, warp, condition, a_while };

  unsigned number;
  Dim index;
  Fiber fiber;
  Clock clock;
  bool after_previous = false;  // it has waited for the launch before
  Wait wait = Wait::no;
  Site where;                       // it waits
  unsigned barrier = 0, count = 0;  // of a named barrier
  std::uint32_t mask = 0;           // of lanes
  std::vector<std::byte> gives;
  std::shared_ptr<const Given> given;
  std::function<bool()> ready;             // of a condition
  std::function<std::string()> waits_for;  // for people
  bool asks = false;                       // has stopped in wait_a_while
  std::uint64_t seen = 0;                  // of the block's progress, when it did
  std::vector<Copy> copies;                // not yet committed
  std::vector<std::vector<Copy>> groups;   // under way
  std::map<Line, unsigned> visits;
};

class Block {
 public:
  Block(const char* kernel, Dim grid, Dim size, Dim index, unsigned number, std::uint64_t launch,
        std::size_t shared_bytes, const std::function<void()>& body)
      : kernel_(kernel),
        grid_(grid),
        size_(size),
        index_(index),
        number_(number),
        launch_(launch),
        body_(body),
        memory_(shared_bytes),
        copied_to_(shared_bytes),
        shadow_(shared_bytes) {
    crew_.fences.resize(size.count());
    for (unsigned t = 0; t < size.count(); ++t) {
      const Dim place{t % size.x, t / size.x % size.y, t / size.x / size.y};
      threads_.push_back(std::make_unique<Thread>(t, place, [this] { run_thread(); }));
    }
  }

  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { threads_.clear(); }  // after a fault some stand in the middle of their work, which ends first

  void run() {
    for (;;) {
      const Thread* alive = nullptr;
      bool ran = false;
      for (const auto& thread : threads_) {
        if (thread->fiber.ended()) continue;
        alive = thread.get();
        if (thread->wait != Thread::Wait::no) continue;
        ran = true;
        current_ = thread.get();
        const bool asks_again = std::exchange(thread->asks, false);
        thread->fiber.resume();
        if (fault_) throw Fault(*fault_);
        if (!asks_again || !thread->asks) ++progress_;
      }
      if (!alive) {
        if (part_) part_->block_ends();
        return;
      }
      if (part_ && part_->turn()) ++progress_;
      const bool warps_go = let_warps_go(), barriers_go = let_barriers_go(), others_go = let_others_go();
      if (!ran && !warps_go && !barriers_go && !others_go) throw Fault(name(*alive) + ": " + nobody());
    }
  }

  void count(Traffic& traffic) const {
    traffic += direct_;
    traffic += requests_.count();
  }

  Dim grid() const { return grid_; }
  Dim size() const { return size_; }
  Dim index() const { return index_; }
  Thread& current() { return *current_; }
  Thread& thread(unsigned number) { return *threads_[number]; }
  std::unique_ptr<Part>& part() { return part_; }
  Crew& crew() { return crew_; }
  Traffic& traffic() { return direct_; }
  std::uint64_t progress() const { return progress_; }

  [[noreturn]] void fault(const std::string& what, const Site& site) {
    current_->where = site;
    throw Fault(name(*current_) + ": " + what);
  }

  /// Stops the running thread until somebody lets it go.
  void wait(Thread::Wait what, const Site& site) {
    Thread& me = *current_;
    me.wait = what;
    me.where = site;
    me.fiber.pause();
  }

  void* reach(Space space, std::uintptr_t at, std::size_t bytes, std::size_t alignment, Access access,
              const Site& site) {
    if (space == Space::shared && part_) {
      const std::string against = part_->refuses(at, bytes);
      if (!against.empty()) refuse(space, bytes, access, against, site);
    }
    void* const memory =
        reach_as(current_->number, current_->clock, space, at, bytes, alignment, access, site);
    if (CountTraffic::on()) {
      const unsigned visit = current_->visits[line_of(site)]++;
      requests_.add(current_->number / kWarpSize, site, visit, space, at, bytes);
    }
    return memory;
  }

  void* reach_as(std::uint32_t member, const Clock& clock, Space space, std::uintptr_t at, std::size_t bytes,
                 std::size_t alignment, Access access, const Site& site) {
    const auto wrong = [&](const std::string& what) { refuse(space, bytes, access, what, site); };
    Allocations::Place place{&shadow_, at};
    if (space == Space::global) place = allocations().find(at);
    if (!place.shadow || place.at + bytes > place.shadow->bytes()) wrong("out of bounds");
    if (space == Space::global && !current_->after_previous)
      wrong("without wait_for_previous: the launch before may still write or read there");
    if (at % alignment) wrong("not aligned to " + std::to_string(alignment));
    if (space == Space::shared &&
        std::any_of(&copied_to_[at], &copied_to_[at] + bytes, [](unsigned copies) { return copies > 0; }))
      wrong("a copy that its thread has not waited for is still to write there");
    const Actor actor{launch_, number_, member, &clock, &crew_, space == Space::shared};
    const std::string against = place.shadow->access(actor, access, place.at, bytes);
    if (!against.empty()) wrong(against);
    return space == Space::global ? reinterpret_cast<void*>(at) : &memory_[at];
  }

  void start(const Copy& copy) {
    if (copy.shared + copy.bytes > memory_.size())
      fault("an asynchronous copy to shared memory: out of bounds", copy.site);
    for (std::size_t i = 0; i < copy.bytes; ++i) ++copied_to_[copy.shared + i];
    current_->copies.push_back(copy);
  }

  void land(const std::vector<Copy>& group) {
    for (const Copy& copy : group) {
      for (std::size_t i = 0; i < copy.bytes; ++i) --copied_to_[copy.shared + i];
      void* to = reach(Space::shared, copy.shared, copy.bytes, copy.bytes, Access::write, copy.site);
      if (copy.zeros) {
        std::memset(to, 0, copy.bytes);
      } else {
        std::memcpy(to, reinterpret_cast<const void*>(copy.global), copy.bytes);
      }
    }
  }

 private:
  void run_thread() {
    try {
      body_();
      if (!current_->after_previous)
        fault(
            "the thread ends without wait_for_previous: who waits for this launch needs those before it, too",
            current_->where);
      for (const auto& group : current_->groups) refuse_to_end(group);
      refuse_to_end(current_->copies);
      if (part_) part_->thread_ends();
    } catch (const Fault& found) {
      fault_ = found.what();
    } catch (const std::exception& other) {
      fault_ = name(*current_) + ": " + other.what();
    }
  }

  [[noreturn]] void refuse(Space space, std::size_t bytes, Access access, const std::string& what,
                           const Site& site) {
    fault(std::string(access == Access::read    ? "read of "
                      : access == Access::write ? "write to "
                                                : "atomic on ") +
              (space == Space::global ? "global memory" : "shared memory") + ", " + std::to_string(bytes) +
              " bytes: " + what,
          site);
  }

  void refuse_to_end(const std::vector<Copy>& copies) {
    if (!copies.empty()) fault("the thread ends before this copy of its", copies.front().site);
  }

  /// All of them know what each did.
  void meet(const std::vector<Thread*>& together) {
    Meeting meeting(threads_.size());
    for (Thread* thread : together) meeting.bring(thread->number, thread->clock);
    const auto whole = meeting.whole();
    for (Thread* thread : together) {
      thread->clock.known = whole;
      thread->wait = Thread::Wait::no;
    }
  }

  bool let_warps_go() {
    bool any = false;
    for (const auto& thread : threads_)
      if (thread->wait == Thread::Wait::warp) any |= let_lanes_go(*thread);
    return any;
  }

  bool let_lanes_go(Thread& one) {
    const unsigned first = one.number / kWarpSize * kWarpSize;
    if (!(one.mask >> (one.number - first) & 1)) throw Fault(name(one) + ": its own lane is not in the mask");
    std::vector<Thread*> lanes;
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      if (!(one.mask >> lane & 1)) continue;
      if (first + lane >= threads_.size() || threads_[first + lane]->fiber.ended())
        throw Fault(name(one) + ": waits for lane " + std::to_string(lane) +
                    ", which has ended or never was");
      lanes.push_back(threads_[first + lane].get());
      const Thread& other = *lanes.back();
      if (other.wait != Thread::Wait::warp) return false;
      if (line_of(other.where) != line_of(one.where) || other.mask != one.mask ||
          other.gives.size() != one.gives.size())
        throw Fault(name(one) + ": lane " + std::to_string(lane) + " came to " + place_of(other.where) +
                    " instead, or with another mask");
    }
    auto given = std::make_shared<Given>();
    for (Thread* lane : lanes) (*given)[lane->number - first] = std::move(lane->gives);
    for (Thread* lane : lanes) lane->given = given;
    meet(lanes);
    return true;
  }

  bool let_barriers_go() {
    std::vector<Thread*> at_block;
    std::map<unsigned, std::vector<Thread*>> at_named;
    const Thread* ended = nullptr;
    for (const auto& thread : threads_) {
      if (thread->fiber.ended()) ended = thread.get();
      if (thread->wait == Thread::Wait::block) at_block.push_back(thread.get());
      if (thread->wait == Thread::Wait::named) at_named[thread->barrier].push_back(thread.get());
    }
    bool any = false;
    for (const auto& [barrier, there] : at_named) {
      for (const Thread* thread : there)
        if (thread->count != there.front()->count)
          throw Fault(name(*thread) + ": barrier " + std::to_string(barrier) + " has two counts");
      if (there.size() > there.front()->count)
        throw Fault(name(*there.front()) + ": more threads than it counts are at barrier " +
                    std::to_string(barrier));
      if (there.size() < there.front()->count) continue;
      meet(there);
      any = true;
    }
    if (at_block.empty()) return any;
    if (ended)
      throw Fault(name(*at_block.front()) + ": waits at a barrier for thread " +
                  std::to_string(ended->number) + ", which has ended");
    if (at_block.size() < threads_.size()) return any;
    for (const Thread* thread : at_block)
      if (line_of(thread->where) != line_of(at_block.front()->where))
        throw Fault(name(*at_block.front()) + ": the barrier diverges, thread " +
                    std::to_string(thread->number) + " waits at " + place_of(thread->where));
    meet(at_block);
    return true;
  }

  bool let_others_go() {
    bool any = false;
    for (const auto& thread : threads_) {
      const bool asks = thread->wait == Thread::Wait::a_while;
      if (!asks && thread->wait != Thread::Wait::condition) continue;
      if (!thread->ready() && !(asks && thread->seen != progress_)) continue;
      thread->wait = Thread::Wait::no;
      any = true;
    }
    return any;
  }

  /// Why nobody can go on: what those wait for who can tell.
  std::string nobody() const {
    std::map<std::string, std::vector<unsigned>> waiting;
    for (const auto& thread : threads_)
      if (thread->wait == Thread::Wait::condition || thread->wait == Thread::Wait::a_while)
        waiting[thread->waits_for()].push_back(thread->number);
    std::string result = "nobody can go on";
    for (const auto& [what, by] : waiting) {
      result += "; thread " + std::to_string(by.front());
      if (by.size() > 1) result += " and " + std::to_string(by.size() - 1) + " more";
      result += " at " + place_of(threads_[by.front()]->where) + " for " + what;
    }
    return result;
  }

  std::string name(const Thread& thread) const {
    return std::string(kernel_) + ", block " + std::to_string(number_) + ", thread " +
           std::to_string(thread.number) + ", " + place_of(thread.where);
  }

  const char* kernel_;
  Dim grid_, size_, index_;
  unsigned number_;
  std::uint64_t launch_;
  const std::function<void()>& body_;
  std::vector<std::byte> memory_;    // shared by its threads
  std::vector<unsigned> copied_to_;  // asynchronous copies to each byte that are under way
  Shadow shadow_;
  std::vector<std::unique_ptr<Thread>> threads_;
  Thread* current_ = nullptr;
  std::optional<std::string> fault_;
  Requests requests_;
  Traffic direct_;  // counted by the part
  Crew crew_;
  std::uint64_t progress_ = 0;  // how often somebody did more than ask again
  std::unique_ptr<Part> part_;
};

/// The block that runs, which the functions called by kernels are about.
Block* running = nullptr;

}  // namespace

void* allocate(std::size_t bytes) {
  ++activity().allocations;
  return allocations().take(bytes);
}

void release(void* data) {
  allocations().give(data);
}

void set_written(void* data, std::size_t bytes) {
  const Allocations::Place place = allocations().find(reinterpret_cast<std::uintptr_t>(data));
  if (!place.shadow || place.at + bytes > place.shadow->bytes())
    throw Fault("set_written: not in one allocation");
  place.shadow->set_written(place.at, bytes);
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
  Traffic traffic;
  const std::uint64_t launch = ++activity().launches;
  for (unsigned b = 0; b < grid.count(); ++b) {
    Block one(kernel, grid, block, {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y}, b, launch,
              shared_bytes, body);
    running = &one;
    one.run();
    one.count(traffic);
  }
  if (CountTraffic::on()) note_traffic(kernel, traffic);
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
  me.gives.assign(mine.begin(), mine.end());
  running->wait(Thread::Wait::warp, site);
  return *me.given;
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
