// A device beside the CPU, as the engine sees it: memory, copies, and a table of kernels.
//
// A build has at most one kind, found by cuda_accelerator(): table_cuda.cu in a build with nvcc,
// table_no_cuda.cpp without, and the model of a GPU in the tests (tests/cuda_host). What is started on a
// device runs in the order it was started in; copies to the host wait for what was started before them.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// The device refused, or a kernel went wrong.
class DeviceFault : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Accelerator {
  /// How many devices can be used; if none, `why` says what is missing.
  int (*device_count)(std::string* why);
  /// Null if the device has no more memory. `release` may be called while kernels that use it still run.
  void* (*allocate)(int device, std::size_t bytes);
  void (*release)(int device, void* data, std::size_t bytes) noexcept;
  // These throw DeviceFault.
  void (*copy_to_device)(int device, void* to, const void* from, std::size_t bytes);
  void (*copy_to_host)(int device, void* to, const void* from, std::size_t bytes);
  void (*copy_between)(int to_device, void* to, int from_device, const void* from, std::size_t bytes);
  /// Until everything started on the device has ended.
  void (*synchronize)(int device);
  /// From now on, this thread's kernels and copies without a device of their own run there.
  void (*select)(int device);
  /// Its entries for double are null.
  const Table* table;
};

/// Null in a build without CUDA.
const Accelerator* cuda_accelerator();

}  // namespace grapnel::kernels
