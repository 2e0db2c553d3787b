// What kernels of many families share: which element a thread has, where it lies, sums over a block.
#pragma once

#include "grapnel/kernels/common/device.cuh"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

inline constexpr unsigned kBlockThreads = 256;

/// Whether four elements can be read or written at once at each; null is nowhere.
template <class... T>
bool aligned_for_four(const T*... places) {
  return ((reinterpret_cast<std::uintptr_t>(places) % (4 * sizeof(T)) == 0) && ...);
}

/// Starts `kernel` with at least one thread for each of `count` elements, if there are any.
template <class... Parameters, class... Arguments>
void launch_each(const char* name, std::int64_t count, void (*kernel)(Parameters...),
                 const Arguments&... arguments) {
  if (count <= 0) return;
  const auto blocks = static_cast<unsigned>((count + kBlockThreads - 1) / kBlockThreads);
  device::launch(name, {blocks}, {kBlockThreads}, 0, kernel, arguments...);
}

/// This thread's number in a grid of one dimension.
GRAPNEL_DEVICE std::int64_t element() {
  return std::int64_t{device::block().x} * device::block_size().x + device::thread().x;
}

/// Where element `flat` (row-major over the nest) of one operand lies.
template <int Operands>
GRAPNEL_DEVICE std::int64_t offset_in(const Loops<Operands>& loops, int operand, std::int64_t flat) {
  std::int64_t offset = 0;
  for (int d = loops.rank - 1; d > 0; --d) {
    offset += flat % loops.sizes[d] * loops.strides[operand][d];
    flat /= loops.sizes[d];
  }
  return offset + flat * loops.strides[operand][0];
}

/// combine(...) of the values of all kBlockThreads threads, in a fixed order, known to thread 0. Takes the 8
/// values behind `scratch`; every thread comes.
template <class T, class Combine>
GRAPNEL_DEVICE T fold_block(T value, device::Shared<T> scratch, const Combine& combine) {
  using namespace device;
  for (unsigned distance = 16; distance > 0; distance /= 2)
    value = combine(value, shuffle_xor(0xffffffffu, value, distance));
  sync_block();  // what an earlier fold left has been read
  if (lane() == 0) store(scratch, thread().x / 32, value);
  sync_block();
  if (thread().x == 0)
    for (unsigned warp = 1; warp < kBlockThreads / 32; ++warp) value = combine(value, load(scratch, warp));
  return value;
}

}  // namespace grapnel::kernels
