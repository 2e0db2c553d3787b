// Freed blocks by size, one set of lists a thread: no lock, and a chain of a million nodes is freed into the
// lists that the next one is built from.
#include "grapnel/engine/pool.h"

#include <array>
#include <new>

namespace grapnel {

#ifndef GRAPNEL_SANITIZED
namespace {

constexpr std::size_t kStep = 32, kClasses = 16;       // blocks of 32, 64, ... 512 bytes
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
  return bytes == 0 ? 0 : (bytes - 1) / kStep;
}

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
  return ::operator new((which + 1) * kStep);
}

void pool_give(void* block, std::size_t bytes) noexcept {
  const std::size_t which = class_of(bytes);
  if (which < kClasses && !lists_are_gone) {
    Lists::List& list = thread_lists.lists[which];
    if (list.count * (which + 1) * kStep < kLimit) {
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
