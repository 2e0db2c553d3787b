// Buffers. Their memory comes from block_cache.h.
#include "grapnel/engine/storage.h"

#include <utility>

#include "grapnel/engine/block_cache.h"
#include "grapnel/engine/error.h"
#include "grapnel/engine/pool.h"

namespace grapnel {
Storage::Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  if (device.kind != Device::Kind::cpu) throw NameError("this build has no kernels for " + to_string(device));
  data_ = bytes <= kInline ? inline_ : BlockCache::instance().take(bytes);
}

Storage::Storage(void* data, std::size_t bytes, std::function<void()> release)
    : data_(data), bytes_(bytes), release_(release ? std::move(release) : [] {}) {}

Storage::~Storage() {
  if (release_)
    release_();
  else if (data_ != inline_ && data_ != nullptr)
    BlockCache::instance().give(data_, bytes_);
}

std::shared_ptr<Storage> Storage::derived(std::string_view key,
                                          const std::function<std::shared_ptr<Storage>()>& make) {
  std::lock_guard lock(derived_mutex_);
  const std::uint64_t now = version();
  std::erase_if(derived_, [&](const Derived& entry) { return entry.version != now; });
  for (Derived& entry : derived_) {
    if (entry.key != key) continue;
    if (!entry.buffer) entry.buffer = make();
    return entry.buffer;
  }
  derived_.push_back({std::string(key), now, nullptr});
  has_derived_.store(true, std::memory_order_relaxed);
  return make();
}

void Storage::drop_derived() {
  std::vector<Derived> old;  // freed without the lock
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
