// A functional model of a CUDA GPU, for tests on machines without one. Read README.md first; what kernels see
// of it is device.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_host/memory.h"
#include "cuda_host/shadow.h"
#include "cuda_host/traffic.h"

namespace grapnel::cuda_host {

inline constexpr std::uint32_t kAllLanes = 0xffffffff;
inline constexpr std::size_t kMaxShared = 227 * 1024;

struct Dim {
  unsigned x = 1, y = 1, z = 1;
  unsigned count() const { return x * y * z; }
};

/// What a kernel, or a launch, did wrong: "KERNEL, block B, thread T, FILE:LINE: what".
class Fault : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Runs `body` for every thread of every block, blocks side by side (host_threads.h), and returns when all
/// have ended. Throws the Fault of the first block that has one; no block begins after that.
Traffic run(const char* kernel, Dim grid, Dim block, std::size_t shared_bytes,
            const std::function<void()>& body);

// --- from inside of a kernel ---

Dim thread_index();
Dim block_index();
Dim block_dim();
Dim grid_dim();
unsigned lane();

/// Until the launch before has ended. Nothing of the model overlaps, but a thread that touches global memory,
/// lets the next launch start, or ends without having waited is a fault.
void wait_for_previous();
void launch_next(const Site& site);

/// The memory behind a checked access.
void* reach(Space space, std::uintptr_t at, std::size_t bytes, std::size_t alignment, Access access,
            const Site& site);

/// Until all threads of the block, or `count` of them that name the same barrier, are there.
void wait_for_block(const Site& site);
void wait_for_named(unsigned barrier, unsigned count, const Site& site);

/// What each lane in `mask` gives, when all are there. All give the same number of bytes. It lasts until the
/// thread next waits.
inline constexpr std::size_t kMostGiven = 16;
using Given = std::array<std::array<std::byte, kMostGiven>, kWarpSize>;
const Given& exchange(std::uint32_t mask, std::span<const std::byte> mine, const Site& site);

/// 4, 8 or 16 bytes from global to shared memory, or zeros, some time until the group they were committed to
/// has been waited for. Until then nobody may touch them.
void copy_async(std::uintptr_t shared, std::uintptr_t global, std::size_t bytes, bool zeros,
                const Site& site);
void commit_copies();
/// Until at most `left` of this thread's groups are under way.
void wait_for_copies(unsigned left);

[[noreturn]] void fault(const std::string& what, const Site& site);

// --- for parts of the model with files of their own (hopper.cpp) ---

/// What such a part keeps while a block runs.
class Part {
 public:
  virtual ~Part() = default;
  /// All threads have run until they wait or end. True if that changes anything for those that wait.
  virtual bool turn() = 0;
  /// These throw Fault: the running thread ends; all have ended.
  virtual void thread_ends() = 0;
  virtual void block_ends() = 0;
  /// What is wrong with an ordinary access to shared memory, or nothing.
  virtual std::string refuses(std::uintptr_t at, std::size_t bytes) const = 0;
};
/// Of the running block; null until somebody sets it.
std::unique_ptr<Part>& part();

unsigned thread_number();
Clock& clock_of(unsigned thread);
Crew& crew();
Traffic& traffic();
std::string place_of(const Site& site);

/// As reach, for a member of the crew that knows `clock`, and counts no traffic.
void* reach_as(std::uint32_t member, const Clock& clock, Space space, std::uintptr_t at, std::size_t bytes,
               std::size_t alignment, Access access, const Site& site);

/// Until `ready`. If nobody can go on, `what` tells what this thread waits for.
void wait_until(std::function<bool()> ready, std::function<std::string()> what, const Site& site);
/// The same, but only until others have run; for threads that ask again.
void wait_a_while(std::function<bool()> ready, std::function<std::string()> what, const Site& site);

}  // namespace grapnel::cuda_host
