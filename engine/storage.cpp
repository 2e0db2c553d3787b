// Buffers. Their memory comes from block_cache.h.
#include "grapnel/engine/storage.h"

#include <utility>

#include "grapnel/engine/block_cache.h"
#include "grapnel/engine/device_memory.h"
#include "grapnel/engine/error.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/thread_modes.h"

namespace grapnel {
Storage::Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  take();
}

Storage::Storage(void* data, std::size_t bytes, std::function<void()> release)
    : data_(data), bytes_(bytes), release_(release ? std::move(release) : [] {}) {}

Storage::~Storage() {
  if (release_)
    release_();
  else if (data_ != inline_ && data_ != nullptr)
    give_memory(device_, data_, bytes_);
}

void Storage::take() const {
  const bool fits_inline = bytes_ <= kInline && device_.kind == Device::Kind::cpu;
  data_ = fits_inline ? inline_ : take_memory(device_, bytes_);
}

std::uint64_t Storage::id() const {
  static std::atomic<std::uint64_t> last{0};
  std::uint64_t mine = id_.load(std::memory_order_relaxed);
  if (mine != 0) return mine;
  const std::uint64_t next = ++last;
  return id_.compare_exchange_strong(mine, next, std::memory_order_relaxed) ? next : mine;
}

std::shared_ptr<Storage> Storage::derived(std::string_view key, std::size_t bytes,
                                          const std::function<void(void* buffer)>& fill,
                                          std::uint64_t others) {
  std::lock_guard lock(derived_mutex_);
  const std::uint64_t now = version();
  std::erase_if(derived_, [&](const Derived& entry) {
    return entry.version != now || (entry.others != others && entry.key == key);
  });
  for (Derived& entry : derived_) {
    if (entry.key != key) continue;
    if (!entry.buffer) {
      // Others would find a buffer that is not filled before the graph is replayed.
      if (thread_modes().capturing)
        throw DeviceError("what is derived from weights cannot be made while a graph is captured");
      // Not from the pool: the next run of the same network would miss the block.
      auto buffer = std::make_shared<Storage>(bytes, device_);
      fill(buffer->data());
      entry.buffer = std::move(buffer);
    }
    return entry.buffer;
  }
  if (derived_.size() == kMostDerived) derived_.erase(derived_.begin());
  derived_.push_back({PoolString(key), now, others, nullptr});
  has_derived_.store(true, std::memory_order_relaxed);
  auto buffer = make_pooled<Storage>(bytes, device_);
  fill(buffer->data());
  return buffer;
}

void Storage::keep(std::string_view key, std::shared_ptr<Storage> made) const {
  std::lock_guard lock(derived_mutex_);
  derived_.push_back({PoolString(key), version(), 0, std::move(made)});
  has_derived_.store(true, std::memory_order_relaxed);
}

std::shared_ptr<Storage> Storage::kept(std::string_view key) const {
  if (!has_derived_.load(std::memory_order_relaxed)) return nullptr;
  std::lock_guard lock(derived_mutex_);
  for (const Derived& entry : derived_)
    if (entry.version == version() && entry.key == key) return entry.buffer;
  return nullptr;
}

void Storage::drop_derived() {
  PoolVector<Derived> old;  // freed without the lock
  std::lock_guard lock(derived_mutex_);
  old.swap(derived_);
  has_derived_.store(false, std::memory_order_relaxed);
}

MemoryUse memory_use() {
  return BlockCache::instance().use();
}

void release_cached_memory() {
  BlockCache::instance().clear();
  release_pool();
}

}  // namespace grapnel
