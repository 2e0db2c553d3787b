// An index out of range that a kernel has met. It lies where the host and the device see it: a kernel cannot
// throw, and to look at each index before the kernel starts would be a wait.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "grapnel/kernels/accelerator.h"

namespace grapnel::kernels {

struct IndexFault {
  const char* operation = nullptr;  // null: none
  std::int64_t index = 0, size = 0;
};

/// Of a device everybody waits for: throws DeviceFault if there is one, and forgets it.
inline void throw_fault(IndexFault& fault) {
  if (!fault.operation) return;
  const IndexFault met = std::exchange(fault, {});
  throw DeviceFault(std::string(met.operation) + ": index " + std::to_string(met.index) + " is outside 0.." +
                    std::to_string(met.size - 1));
}

/// Notes the first of `count` indices that is outside of [0, size), if nothing is noted there yet
/// (index/cuda.cu).
void find_index_fault(IndexFault* fault, const char* operation, std::int64_t size, std::int64_t count,
                      const std::int64_t* index);

}  // namespace grapnel::kernels
