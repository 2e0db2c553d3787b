#include "cuda_host/memory.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "cuda_host/capture.h"
#include "cuda_host/model.h"

namespace grapnel::cuda_host {
namespace {

constexpr std::size_t kAlign = 256;  // as cudaMalloc's; what lies between two belongs to none

struct Memory {
  Memory(std::unique_ptr<std::byte[]> memory, std::size_t bytes) : data(std::move(memory)), shadow(bytes) {}
  std::unique_ptr<std::byte[]> data;
  Shadow shadow;
};

/// All of it, by address. Host threads come side by side.
struct All {
  std::mutex mutex;
  std::map<std::uintptr_t, Memory> memories;
  std::size_t bytes = 0, most = std::numeric_limits<std::size_t>::max();
};
All& all() {
  static All one;
  return one;
}

}  // namespace

void* allocate(std::size_t bytes) {
  All& in = all();
  const std::lock_guard lock(in.mutex);
  if (bytes > in.most - std::min(in.bytes, in.most)) return nullptr;
  ++activity().allocations;
  in.bytes += bytes;
  auto data = std::make_unique<std::byte[]>(bytes + 2 * kAlign);
  const auto address = (reinterpret_cast<std::uintptr_t>(data.get()) + kAlign - 1) / kAlign * kAlign;
  in.memories.try_emplace(address, std::move(data), bytes);
  return reinterpret_cast<void*>(address);
}

void release(void* data) {
  All& in = all();
  const std::lock_guard lock(in.mutex);
  const auto found = in.memories.find(reinterpret_cast<std::uintptr_t>(data));
  if (found == in.memories.end()) return;
  in.bytes -= found->second.shadow.bytes();
  in.memories.erase(found);
}

void set_written(void* data, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  const Allocation found = allocation_at(at);
  if (!found.holds(at, bytes)) throw Fault("set_written: not in one allocation");
  found.shadow->set_written(at - found.first, bytes);
}

LimitMemory::LimitMemory(std::size_t bytes) : before_(all().most) {
  const std::lock_guard lock(all().mutex);
  all().most = all().bytes + bytes;
}

LimitMemory::~LimitMemory() {
  const std::lock_guard lock(all().mutex);
  all().most = before_;
}

Allocation allocation_at(std::uintptr_t at) {
  All& in = all();
  const std::lock_guard lock(in.mutex);
  const auto after = in.memories.upper_bound(at);
  if (after == in.memories.begin()) return {};
  auto& [first, memory] = *std::prev(after);
  return {first, &memory.shadow};
}

}  // namespace grapnel::cuda_host
