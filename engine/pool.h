// Memory for the small objects that come and go with every operation: tensors, storages, nodes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace grapnel {

/// At least `bytes` bytes, aligned for anything, from this thread's list of freed blocks if there is one.
void* pool_take(std::size_t bytes);
/// Gives back what pool_take returned for the same size, on any thread.
void pool_give(void* block, std::size_t bytes) noexcept;
/// Returns this thread's unused blocks to the system.
void release_pool() noexcept;

/// Base of structs whose objects come from the pool, when they are made with new.
struct Pooled {
  static void* operator new(std::size_t bytes) { return pool_take(bytes); }
  static void operator delete(void* object, std::size_t bytes) noexcept { pool_give(object, bytes); }
};

/// A standard allocator over the pool.
template <class T>
struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U>
  PoolAllocator(const PoolAllocator<U>&) {}

  T* allocate(std::size_t count) { return static_cast<T*>(pool_take(count * sizeof(T))); }
  void deallocate(T* block, std::size_t count) noexcept { pool_give(block, count * sizeof(T)); }
  template <class U>
  bool operator==(const PoolAllocator<U>&) const {
    return true;
  }
};

template <class T>
using PoolVector = std::vector<T, PoolAllocator<T>>;

using PoolString = std::basic_string<char, std::char_traits<char>, PoolAllocator<char>>;

template <class T, class... Arguments>
std::shared_ptr<T> make_pooled(Arguments&&... arguments) {
  return std::allocate_shared<T>(PoolAllocator<T>(), std::forward<Arguments>(arguments)...);
}

}  // namespace grapnel
