// A functional model of a CUDA GPU, for tests on machines without one. Read README.md first; what kernels see
// of it is device.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace grapnel::cuda_host {

using Site = std::source_location;

inline constexpr unsigned kWarpSize = 32;
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

/// How the warps of a kernel used memory. Lanes that come to one line the same time make one request.
struct Traffic {
  std::uint64_t global_requests = 0;
  std::uint64_t global_sectors = 0;  // of 32 bytes
  std::uint64_t shared_requests = 0;
  std::uint64_t shared_passes = 0;  // over the 32 banks; one a request and 128 bytes if nothing conflicts
};

/// Global memory: what a kernel may touch. Its content is unset until somebody writes it.
void* allocate(std::size_t bytes);
void release(void* data);
/// Host code filled it.
void set_written(void* data, std::size_t bytes);

/// Runs `body` for every thread of every block and returns when all have ended. Throws Fault.
Traffic run(const char* kernel, Dim grid, Dim block, std::size_t shared_bytes,
            const std::function<void()>& body);

// --- from inside of a kernel ---

Dim thread_index();
Dim block_index();
Dim block_dim();
Dim grid_dim();
unsigned lane();

enum class Space : std::uint8_t { global, shared };

/// The memory behind a checked access.
void* reach(Space space, std::uintptr_t at, std::size_t bytes, std::size_t alignment, bool write, bool atomic,
            const Site& site);

/// Until all threads of the block, or `count` of them that name the same barrier, are there.
void wait_for_block(const Site& site);
void wait_for_named(unsigned barrier, unsigned count, const Site& site);

/// What each lane in `mask` gives, when all are there. All give the same number of bytes.
using Given = std::array<std::vector<std::byte>, kWarpSize>;
const Given& exchange(std::uint32_t mask, std::span<const std::byte> mine, const Site& site);

/// 4, 8 or 16 bytes from global to shared memory, or zeros, some time until the group they were committed to
/// has been waited for. Until then nobody may touch them.
void copy_async(std::uintptr_t shared, std::uintptr_t global, std::size_t bytes, bool zeros,
                const Site& site);
void commit_copies();
/// Until at most `left` of this thread's groups are under way.
void wait_for_copies(unsigned left);

[[noreturn]] void fault(const std::string& what, const Site& site);

}  // namespace grapnel::cuda_host
