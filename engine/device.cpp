// Devices by name and number, and their memory. What CUDA there is comes from kernels/accelerator.h.
#include "grapnel/engine/device.h"

#include <charconv>
#include <cstring>

#include "grapnel/engine/backend.h"
#include "grapnel/engine/block_cache.h"
#include "grapnel/engine/device_memory.h"
#include "grapnel/engine/thread_modes.h"

namespace grapnel {
namespace {

/// Why there is no CUDA device at all; empty if there is one.
std::string missing() {
  const kernels::Accelerator* cuda = kernels::cuda_accelerator();
  if (!cuda) return "this build has no CUDA kernels";
  std::string why;
  return cuda->device_count(&why) > 0 ? "" : why;
}

void check_usable(Device device) {
  if (const std::string why = missing(); !why.empty())
    throw DeviceError("device " + to_string(device) + " cannot be used: " + why + "; use cpu");
  if (device.index < 0 || device.index >= cuda_device_count())
    throw DeviceError("device " + to_string(device) + " does not exist: there are " +
                      std::to_string(cuda_device_count()) + ", counted from 0");
}

}  // namespace

std::string to_string(Device device) {
  return device.kind == Device::Kind::cpu ? "cpu" : "cuda:" + std::to_string(device.index);
}

Device parse_device(const std::string& text) {
  if (text == "cpu") return Device::cpu();
  Device device = Device::cuda();
  bool known = text == "cuda";
  if (text.rfind("cuda:", 0) == 0) {
    const char* end = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(text.data() + 5, end, device.index);
    known = error == std::errc() && stopped == end;
  }
  if (!known) throw NameError("device " + text + " is unknown; use cpu, cuda or cuda:N");
  check_usable(device);
  return device;
}

Device default_device() {
  return thread_modes().default_device;
}

DefaultDevice::DefaultDevice(Device device) : previous_(default_device()) {
  if (device.kind == Device::Kind::cuda) check_usable(device);
  thread_modes().default_device = device;
}
DefaultDevice::~DefaultDevice() {
  thread_modes().default_device = previous_;
}

int cuda_device_count() {
  const kernels::Accelerator* cuda = kernels::cuda_accelerator();
  std::string why;
  return cuda ? cuda->device_count(&why) : 0;
}

void synchronize(Device device) {
  if (device.kind == Device::Kind::cuda)
    on_device("synchronize", [&] { use(device).synchronize(device.index); });
}

Precision parse_precision(const std::string& text) {
  if (text == "fp32") return Precision::fp32;
  if (text == "tf32") return Precision::tf32;
  if (text == "bf16") return Precision::bf16;
  throw NameError("precision " + text + " is unknown; use fp32, tf32 or bf16");
}

const kernels::Accelerator& use(Device device) {
  thread_local int selected = -1;
  const kernels::Accelerator* cuda = kernels::cuda_accelerator();
  if (selected != device.index || !cuda) {
    check_usable(device);
    cuda->select(device.index);
    selected = device.index;
  }
  return *cuda;
}

void* take_memory(Device device, std::size_t bytes) {
  if (device.kind == Device::Kind::cpu) return BlockCache::instance().take(bytes);
  void* data = on_device("memory", [&] { return use(device).allocate(device.index, bytes); });
  if (!data) throw DeviceError(kernels::out_of_memory(to_string(device), bytes));
  return data;
}

void give_memory(Device device, void* data, std::size_t bytes) noexcept {
  if (device.kind == Device::Kind::cpu)
    BlockCache::instance().give(data, bytes);
  else
    kernels::cuda_accelerator()->release(device.index, data, bytes);
}

void copy_memory(Device to_device, void* to, Device from_device, const void* from, std::size_t bytes) {
  const bool to_cpu = to_device.kind == Device::Kind::cpu, from_cpu = from_device.kind == Device::Kind::cpu;
  if (bytes == 0) return;
  on_device("copy", [&] {
    if (to_cpu && from_cpu)
      std::memcpy(to, from, bytes);
    else if (to_cpu)
      use(from_device).copy_to_host(from_device.index, to, from, bytes);
    else if (from_cpu)
      use(to_device).copy_to_device(to_device.index, to, from, bytes);
    else
      use(to_device).copy_between(to_device.index, to, from_device.index, from, bytes);
  });
}

}  // namespace grapnel
