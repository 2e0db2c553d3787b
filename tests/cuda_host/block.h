// One block of a launch while it runs, and what its launch keeps from block to block.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda_host/fiber.h"
#include "cuda_host/memory.h"
#include "cuda_host/model.h"

namespace grapnel::cuda_host {

struct Launch {
  const char* kernel;
  Dim grid, block;
  std::size_t shared_bytes;
  const std::function<void()>& body;
  std::uint32_t number;
  bool alone;  // its blocks run one after the other
};

/// What one host thread needs for the blocks it runs.
class Multiprocessor {
 public:
  explicit Multiprocessor(std::size_t shared_bytes)
      : memory(shared_bytes), copied_to((shared_bytes + kWord - 1) / kWord), shadow(shared_bytes) {}

  static constexpr std::size_t kWord = 4;

  /// For the next block.
  void forget();
  /// That holds these bytes of global memory; none, if there is none.
  Allocation find(std::uintptr_t at, std::size_t bytes);

  std::vector<std::byte> memory;         // shared by the threads of a block
  std::vector<std::uint16_t> copied_to;  // asynchronous copies to each word that are under way
  Shadow shadow;

 private:
  std::array<Allocation, 8> seen_;  // nobody frees them while the launch runs
  std::size_t next_ = 0;
};

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
  std::array<std::byte, kMostGiven> gives;
  std::size_t given_bytes = 0;
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
  Block(const Launch& launch, unsigned number, Multiprocessor& on);
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { threads_.clear(); }  // after a fault some stand in the middle of their work, which ends first

  void run();
  void count(Traffic& traffic) const;

  Dim grid() const { return launch_.grid; }
  Dim size() const { return launch_.block; }
  Dim index() const { return index_; }
  Thread& current() { return *current_; }
  Thread& thread(unsigned number) { return *threads_[number]; }
  std::unique_ptr<Part>& part() { return part_; }
  Crew& crew() { return crew_; }
  Traffic& traffic() { return direct_; }
  std::uint64_t progress() const { return progress_; }
  /// What lanes of the running thread's warp gave when they last met.
  const Given& given() const { return given_[current_->number / kWarpSize]; }

  [[noreturn]] void fault(const std::string& what, const Site& site);
  /// Stops the running thread until somebody lets it go.
  void wait(Thread::Wait what, const Site& site);
  void* reach(Space space, std::uintptr_t at, std::size_t bytes, std::size_t alignment, Access access,
              const Site& site);
  void* reach_as(std::uint32_t member, const Clock& clock, Space space, std::uintptr_t at, std::size_t bytes,
                 std::size_t alignment, Access access, const Site& site);
  void start(const Copy& copy);
  void land(const std::vector<Copy>& group);

 private:
  void run_thread();
  [[noreturn]] void refuse(Space space, std::size_t bytes, Access access, const std::string& what,
                           const Site& site);
  void refuse_to_end(const std::vector<Copy>& copies);
  /// All of them know what each did.
  void meet(const std::vector<Thread*>& together);
  bool let_warps_go();
  bool let_lanes_go(Thread& one);
  bool let_barriers_go();
  bool let_others_go();
  /// Why nobody can go on: what those wait for who can tell.
  std::string nobody() const;
  std::string name(const Thread& thread) const;

  const Launch& launch_;
  const unsigned number_;
  const Dim index_;
  Multiprocessor& on_;
  unsigned copies_under_way_ = 0;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Given> given_;  // of each warp
  Thread* current_ = nullptr;
  Requests requests_;
  Traffic direct_;  // counted by the part
  Crew crew_;
  std::uint64_t progress_ = 0;  // how often somebody did more than ask again
  std::unique_ptr<Part> part_;
};

}  // namespace grapnel::cuda_host
