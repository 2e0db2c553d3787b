#include "grapnel/engine/block_cache.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>

#include "grapnel/engine/error.h"
#include "grapnel/engine/pages.h"

namespace grapnel {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kLarge = std::size_t{1} << 18;   // from here on blocks are cut from regions
constexpr std::size_t kRegion = std::size_t{1} << 28;  // where there is no room for an ample one
constexpr std::size_t kLimit = std::size_t{1} << 30;   // kept unused, if no more was ever in use

/// The next step will want what this one did, and an eighth may lie between the blocks.
std::size_t most_kept(std::size_t peak_in_use) {
  return std::max(kLimit, peak_in_use / 8 * 9);
}

std::size_t rounded(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

[[noreturn]] void out_of_memory(std::size_t bytes) {
  throw Error("out of memory: " + std::to_string(bytes) + " bytes asked for");
}

}  // namespace

BlockCache& BlockCache::instance() {
  // Never destroyed: tensors in static storage may outlive any order of destruction.
  static BlockCache* cache = new BlockCache;
  return *cache;
}

void* BlockCache::take(std::size_t bytes) {
  bytes = rounded(bytes);
  std::lock_guard lock(mutex_);
  void* data = bytes < kLarge ? take_small(bytes) : take_large(bytes);
  use_.in_use += bytes;
  use_.peak_in_use = std::max(use_.peak_in_use, use_.in_use);
  return data;
}

void BlockCache::give(void* data, std::size_t bytes) noexcept {
  bytes = rounded(bytes);
  std::lock_guard lock(mutex_);
  use_.in_use -= bytes;
  if (bytes < kLarge) {
    try {
      small_[bytes].push_back(data);
      use_.cached += bytes;
    } catch (const std::bad_alloc&) {
      std::free(data);
    }
    return;
  }
  Block* block = static_cast<Block*>(data) - 1;
  block->touched = block->size;
  link(block);
  if (block->after && block->after->free) join_with_next(block);
  if (block->before && block->before->free) join_with_next(block = block->before);
  if (use_.cached > most_kept(use_.peak_in_use)) release(block);
}

void BlockCache::clear() noexcept {
  std::lock_guard lock(mutex_);
  for (auto& [bytes, blocks] : small_) {
    use_.cached -= bytes * blocks.size();
    for (void* block : blocks) std::free(block);
  }
  small_.clear();
  release_free();
}

MemoryUse BlockCache::use() {
  std::lock_guard lock(mutex_);
  return use_;
}

void* BlockCache::take_small(std::size_t bytes) {
  const auto found = small_.find(bytes);
  if (found == small_.end() || found->second.empty()) {
    void* memory = std::aligned_alloc(kAlignment, bytes);
    if (!memory) out_of_memory(bytes);
    ++use_.system_requests;
    return memory;
  }
  void* data = found->second.back();
  found->second.pop_back();
  use_.cached -= bytes;
  return data;
}

void* BlockCache::take_large(std::size_t bytes) {
  const std::size_t size = bytes + sizeof(Block);
  Block* block = smallest_free(size);
  if (!block) block = new_region(size);
  unlink(block);
  if (block->touched < size) {
    ++use_.system_requests;
    // Rather than grow beside what no longer fits, give that back.
    if (use_.in_use + use_.cached + size > most_kept(std::max(use_.peak_in_use, use_.in_use + size)))
      release_free();
  }
  split(block, size);
  return block + 1;
}

/// Of several, the lowest.
BlockCache::Block* BlockCache::smallest_free(std::size_t size) const {
  Block* smallest = nullptr;
  for (Block* block = free_; block; block = block->next_free) {
    if (block->size < size) continue;
    if (!smallest || std::pair(block->size, block) < std::pair(smallest->size, smallest)) smallest = block;
  }
  return smallest;
}

BlockCache::Block* BlockCache::new_region(std::size_t size) {
  void* memory = nullptr;
  // Whoever limits the address space may have room for the block only, or only once other regions are gone.
  for (const std::size_t bytes :
       {std::max(size, ample_address_space()), std::max(size, kRegion), size, size}) {
    memory = map_pages(bytes);
    if (memory) {
      auto* block = new (memory) Block{bytes, 0, false, nullptr, nullptr, nullptr, nullptr};
      link(block);
      return block;
    }
    if (bytes == size) release_free();
  }
  out_of_memory(size);
}

/// Cuts what is beyond `size` off a block in use, if it is worth it.
void BlockCache::split(Block* block, std::size_t size) {
  if (block->size - size < kLarge) return;
  auto* rest = reinterpret_cast<Block*>(reinterpret_cast<std::byte*>(block) + size);
  *rest = {block->size - size,
           block->touched - std::min(block->touched, size),
           false,
           block,
           block->after,
           nullptr,
           nullptr};
  if (rest->after) rest->after->before = rest;
  block->after = rest;
  block->size = size;
  link(rest);
}

/// Both are free.
void BlockCache::join_with_next(Block* block) {
  Block* next = block->after;
  unlink(next);
  unlink(block);
  if (next->touched > 0) block->touched = block->size + next->touched;
  block->size += next->size;
  block->after = next->after;
  if (block->after) block->after->before = block;
  link(block);
}

void BlockCache::link(Block* block) {
  block->free = true;
  block->former_free = nullptr;
  block->next_free = free_;
  if (free_) free_->former_free = block;
  free_ = block;
  use_.cached += block->touched;
}

void BlockCache::unlink(Block* block) {
  block->free = false;
  (block->former_free ? block->former_free->next_free : free_) = block->next_free;
  if (block->next_free) block->next_free->former_free = block->former_free;
  use_.cached -= block->touched;
}

void BlockCache::release_free() {
  for (Block *block = free_, *next; block; block = next) {
    next = block->next_free;
    release(block);
  }
}

/// A region of which nothing is in use goes as a whole.
void BlockCache::release(Block* block) {
  if (!block->before && !block->after) {
    unlink(block);
    unmap_pages(block, block->size);
    return;
  }
  return_pages(block + 1, std::max(block->touched, sizeof(Block)) - sizeof(Block));
  use_.cached -= std::exchange(block->touched, 0);
}

}  // namespace grapnel
