// Buffers, and the cache that keeps freed ones for the next operation of the same size.
#include "grapnel/engine/storage.h"

#include <cstdlib>
#include <new>
#include <unordered_map>
#include <utility>

#include "grapnel/engine/error.h"
#include "grapnel/engine/pool.h"

namespace grapnel {
namespace {

constexpr std::size_t kAlignment = 64;

/// Keeps freed blocks by size. Asking the system for every activation costs a page fault per 4 KiB, more than
/// many an operation; a network asks for the same sizes again and again.
class BlockCache {
 public:
  void* take(std::size_t bytes) {
    {
      std::lock_guard lock(mutex_);
      auto found = free_.find(bytes);
      if (found != free_.end() && !found->second.empty()) {
        void* block = found->second.back();
        found->second.pop_back();
        held_ -= bytes;
        return block;
      }
    }
    void* block = std::aligned_alloc(kAlignment, bytes);
    if (!block) {
      clear();
      block = std::aligned_alloc(kAlignment, bytes);
    }
    if (!block) throw Error("out of memory: " + std::to_string(bytes) + " bytes asked for");
    return block;
  }

  void give(void* block, std::size_t bytes) noexcept {
    {
      std::lock_guard lock(mutex_);
      if (held_ + bytes <= kLimit) {
        try {
          free_[bytes].push_back(block);
          held_ += bytes;
          return;
        } catch (const std::bad_alloc&) {
        }
      }
    }
    std::free(block);
  }

  void clear() noexcept {
    std::lock_guard lock(mutex_);
    for (auto& [bytes, blocks] : free_)
      for (void* block : blocks) std::free(block);
    free_.clear();
    held_ = 0;
  }

  ~BlockCache() { clear(); }

 private:
  static constexpr std::size_t kLimit = std::size_t{1} << 30;

  std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<void*>> free_;
  std::size_t held_ = 0;
};

BlockCache& block_cache() {
  // Never destroyed: tensors in static storage may outlive any order of destruction.
  static BlockCache* cache = new BlockCache;
  return *cache;
}

std::size_t block_size(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Storage::Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  if (device.kind != Device::Kind::cpu) throw NameError("this build has no kernels for " + to_string(device));
  data_ = bytes <= kInline ? inline_ : block_cache().take(block_size(bytes));
}

Storage::Storage(void* data, std::size_t bytes, std::function<void()> release)
    : data_(data), bytes_(bytes), release_(release ? std::move(release) : [] {}) {}

Storage::~Storage() {
  if (release_)
    release_();
  else if (data_ != inline_)
    block_cache().give(data_, block_size(bytes_));
}

std::shared_ptr<Storage> Storage::derived(const std::string& key,
                                          const std::function<std::shared_ptr<Storage>()>& make) {
  std::lock_guard lock(derived_mutex_);
  const std::uint64_t now = version();
  std::erase_if(derived_, [&](const Derived& entry) { return entry.version != now; });
  for (const Derived& entry : derived_)
    if (entry.key == key) return entry.buffer;
  derived_.push_back({key, now, make()});
  return derived_.back().buffer;
}

void release_cached_memory() {
  block_cache().clear();
  release_pool();
}

}  // namespace grapnel
