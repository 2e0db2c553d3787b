// Global memory of the model: which addresses there are, and what is known of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_host/shadow.h"

namespace grapnel::cuda_host {

/// What a kernel may touch. Its content is unset until somebody writes it. Null beyond a limit.
void* allocate(std::size_t bytes);
void release(void* data);
/// Host code filled it.
void set_written(void* data, std::size_t bytes);

/// While one exists, at most `bytes` more are there than when it was made.
class LimitMemory {
 public:
  explicit LimitMemory(std::size_t bytes);
  ~LimitMemory();
  LimitMemory(const LimitMemory&) = delete;
  LimitMemory& operator=(const LimitMemory&) = delete;

 private:
  std::size_t before_;
};

struct Allocation {
  std::uintptr_t first = 0;
  Shadow* shadow = nullptr;  // null: there is none

  bool holds(std::uintptr_t at, std::size_t bytes) const {
    return shadow && at >= first && at - first + bytes <= shadow->bytes();
  }
};
/// The one that starts at `at`, or the last that starts before.
Allocation allocation_at(std::uintptr_t at);

}  // namespace grapnel::cuda_host
