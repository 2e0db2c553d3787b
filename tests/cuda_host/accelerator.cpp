// The model as the engine's CUDA device: the same kernels, tensors, hooks and networks, without a GPU. Linked
// in front of the library, it takes the place of kernels/table_no_cuda.cpp.
#include "grapnel/kernels/accelerator.h"

#include <cstring>

#include "cuda_host/device.h"
#include "cuda_host/model.h"
#include "grapnel/kernels/common/cuda_families.h"

namespace grapnel {
namespace {

int device_count(std::string*) {
  return 1;
}

void* allocate(int, std::size_t bytes) {
  return cuda_host::allocate(bytes);
}
void release(int, void* data, std::size_t) noexcept {
  cuda_host::release(data);
}

void copy_to_device(int, void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
  cuda_host::set_written(to, bytes);
}
void copy_to_host(int, void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
void copy_between(int, void* to, int, const void* from, std::size_t bytes) {
  copy_to_device(0, to, from, bytes);
}

void nothing_to_do(int) {}

}  // namespace

device::Workspace::Workspace(std::size_t bytes)
    : bytes_(bytes), data_(bytes == 0 ? nullptr : cuda_host::allocate(bytes)) {}

device::Workspace::~Workspace() {
  if (data_) cuda_host::release(data_);
}

const kernels::Accelerator* kernels::cuda_accelerator() {
  static const Table table = make_cuda_table();
  static const Accelerator model{device_count, allocate,      release,       copy_to_device, copy_to_host,
                                 copy_between, nothing_to_do, nothing_to_do, &table};
  return &model;
}

}  // namespace grapnel
