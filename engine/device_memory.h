// Memory on any device, and the way between devices. Internal to the engine.
#pragma once

#include <cstddef>

#include "grapnel/engine/device.h"
#include "grapnel/kernels/accelerator.h"

namespace grapnel {

/// The accelerator behind a device that is not the CPU, which this thread's kernels run on from now on.
/// Throws DeviceError if there is none, saying why.
const kernels::Accelerator& use(Device device);

/// At least `bytes`, aligned to 64. Throws Error or DeviceError when memory is exhausted; then unused memory
/// has been given back, and everything goes on working.
void* take_memory(Device device, std::size_t bytes);
/// `bytes` as it was taken.
void give_memory(Device device, void* data, std::size_t bytes) noexcept;

/// Between any two devices. A copy to the CPU waits for what was started before.
void copy_memory(Device to_device, void* to, Device from_device, const void* from, std::size_t bytes);

}  // namespace grapnel
