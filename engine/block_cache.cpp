#include "grapnel/engine/block_cache.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>

#include "grapnel/engine/error.h"

namespace grapnel {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kLarge = std::size_t{1} << 18;    // from here on blocks are cut from segments
constexpr std::size_t kSegment = std::size_t{1} << 28;  // pages that nobody touches cost nothing
constexpr std::size_t kLimit = std::size_t{1} << 30;    // kept unused, if no more was ever in use
constexpr std::size_t kHugePage = std::size_t{1} << 21;

/// Asks for pages of 2 MiB: streaming through weights in pages of 4 KiB spends much of its time looking up
/// where they lie. Only a wish; systems without such pages go on with small ones.
void prefer_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
  madvise(data, bytes, MADV_HUGEPAGE);
#endif
}

/// The next step will want what this one did, and an eighth may lie between the blocks.
std::size_t most_kept(std::size_t peak_in_use) {
  return std::max(kLimit, peak_in_use / 8 * 9);
}

std::size_t rounded(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
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
  link(block);
  if (block->after && block->after->free) join_with_next(block);
  if (block->before && block->before->free) join_with_next(block = block->before);
  if (use_.cached > most_kept(use_.peak_in_use)) release_if_whole(block);
}

void BlockCache::clear() noexcept {
  std::lock_guard lock(mutex_);
  for (auto& [bytes, blocks] : small_) {
    use_.cached -= bytes * blocks.size();
    for (void* block : blocks) std::free(block);
  }
  small_.clear();
  release_segments();
}

MemoryUse BlockCache::use() {
  std::lock_guard lock(mutex_);
  return use_;
}

void* BlockCache::take_small(std::size_t bytes) {
  const auto found = small_.find(bytes);
  if (found == small_.end() || found->second.empty()) return system_memory(bytes);
  void* data = found->second.back();
  found->second.pop_back();
  use_.cached -= bytes;
  return data;
}

void* BlockCache::take_large(std::size_t bytes) {
  const std::size_t size = bytes + sizeof(Block);
  Block* block = first_free(size);
  if (!block) block = new_segment(size);
  unlink(block);
  split(block, size);
  return block + 1;
}

/// The lowest in the oldest segment, so that what lives long gathers at one end.
BlockCache::Block* BlockCache::first_free(std::size_t size) const {
  Block* first = nullptr;
  for (Block* block = free_; block; block = block->next_free) {
    if (block->size < size) continue;
    if (!first || std::pair(block->segment, block) < std::pair(first->segment, first)) first = block;
  }
  return first;
}

BlockCache::Block* BlockCache::new_segment(std::size_t size) {
  // Whoever limits the address space may have room for the block, but for no whole segment.
  const std::size_t segment = (std::max(size, kSegment) + kHugePage - 1) / kHugePage * kHugePage;
  // Rather than grow beside what no longer fits, give that back.
  if (use_.in_use + use_.cached + segment > most_kept(std::max(use_.peak_in_use, use_.in_use + size)))
    release_segments();
  void* memory = std::aligned_alloc(kHugePage, segment);
  if (memory) {
    ++use_.system_requests;
    prefer_huge_pages(memory, segment);
  }
  auto* block = static_cast<Block*>(memory ? memory : system_memory(size));
  *block = {memory ? segment : size, segments_++, false, nullptr, nullptr, nullptr, nullptr};
  link(block);
  return block;
}

/// Cuts what is beyond `size` off a block in use, if it is worth it.
void BlockCache::split(Block* block, std::size_t size) {
  if (block->size - size < kLarge) return;
  auto* rest = reinterpret_cast<Block*>(reinterpret_cast<std::byte*>(block) + size);
  *rest = {block->size - size, block->segment, false, block, block->after, nullptr, nullptr};
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
  use_.cached += block->size;
}

void BlockCache::unlink(Block* block) {
  block->free = false;
  (block->former_free ? block->former_free->next_free : free_) = block->next_free;
  if (block->next_free) block->next_free->former_free = block->former_free;
  use_.cached -= block->size;
}

void BlockCache::release_segments() {
  for (Block *block = free_, *next; block; block = next) {
    next = block->next_free;
    release_if_whole(block);
  }
}

void BlockCache::release_if_whole(Block* block) {
  if (block->before || block->after) return;
  unlink(block);
  std::free(block);
}

void* BlockCache::system_memory(std::size_t bytes) {
  void* memory = std::aligned_alloc(kAlignment, bytes);
  if (!memory) throw Error("out of memory: " + std::to_string(bytes) + " bytes asked for");
  ++use_.system_requests;
  return memory;
}

}  // namespace grapnel
