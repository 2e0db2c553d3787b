// Working memory a thread keeps between kernel calls, so that a call allocates nothing after the first.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace grapnel::kernels {

/// A buffer that only grows. Declare it `static thread_local` in the very body that uses it: one declared
/// outside a lambda that other threads run is never freed in those. What it holds is lost when it grows.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(); }

  /// Room for `count` elements, 64-byte aligned, not initialised. Out of memory ends the program: kernels do
  /// not throw.
  T* get(std::size_t count) noexcept {
    if (count > capacity_) {
      release();
      data_ = static_cast<T*>(::operator new(count * sizeof(T), kAlignment));
      capacity_ = count;
    }
    return data_;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};

  void release() noexcept { ::operator delete(data_, kAlignment); }

  T* data_ = nullptr;
  std::size_t capacity_ = 0;
};

}  // namespace grapnel::kernels
