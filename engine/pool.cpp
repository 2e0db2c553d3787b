// Freed blocks by size, one set of lists a thread: no lock, and a chain of a million nodes is freed into the
// lists that the next one is built from.
#include "grapnel/engine/pool.h"

#include <array>
#include <bit>
#include <new>

namespace grapnel {

#ifndef GRAPNEL_SANITIZED
namespace {

// Blocks of 32, 64, ... 512 bytes for objects, then of 1, 2, ... 64 KiB for what grows with a graph.
constexpr std::size_t kStep = 32, kSteps = 16, kClasses = kSteps + 7;
constexpr std::size_t kLimit = std::size_t{16} << 20;  // bytes kept of one class

struct FreeBlock {
  FreeBlock* next;
};

struct Lists {
  struct List {
    FreeBlock* first = nullptr;
    std::size_t count = 0;
  };
  std::array<List, kClasses> lists;

  ~Lists();
  void clear() noexcept {
    for (List& list : lists)
      while (list.first) ::operator delete(std::exchange(list.first, list.first->next));
    lists = {};
  }
};

thread_local bool lists_are_gone = false;  // tensors in other thread-local objects may be freed later
thread_local Lists thread_lists;

Lists::~Lists() {
  clear();
  lists_are_gone = true;
}

constexpr std::size_t class_of(std::size_t bytes) {
  if (bytes <= kStep) return 0;
  const std::size_t step = (bytes - 1) / kStep;
  return step < kSteps ? step : kSteps - 1 + std::bit_width(step / kSteps);
}
constexpr std::size_t size_of(std::size_t which) {
  return which < kSteps ? (which + 1) * kStep : (kSteps * kStep) << (which - kSteps + 1);
}
static_assert(class_of(512) == 15 && size_of(15) == 512 && class_of(513) == 16 && size_of(16) == 1024 &&
              class_of(1025) == 17 && class_of(65536) == 22 && size_of(22) == 65536 && class_of(65537) == 23);

}  // namespace

void* pool_take(std::size_t bytes) {
  const std::size_t which = class_of(bytes);
  if (which >= kClasses) return ::operator new(bytes);
  if (!lists_are_gone) {
    Lists::List& list = thread_lists.lists[which];
    if (list.first) {
      --list.count;
      return std::exchange(list.first, list.first->next);
    }
  }
  return ::operator new(size_of(which));
}

void pool_give(void* block, std::size_t bytes) noexcept {
  const std::size_t which = class_of(bytes);
  if (which < kClasses && !lists_are_gone) {
    Lists::List& list = thread_lists.lists[which];
    if (list.count * size_of(which) < kLimit) {
      list.first = new (block) FreeBlock{list.first};
      ++list.count;
      return;
    }
  }
  ::operator delete(block);
}

void release_pool() noexcept {
  if (!lists_are_gone) thread_lists.clear();
}

#else  // a sanitizer has to see every allocation

void* pool_take(std::size_t bytes) {
  return ::operator new(bytes);
}
void pool_give(void* block, std::size_t) noexcept {
  ::operator delete(block);
}
void release_pool() noexcept {}

#endif

}  // namespace grapnel
