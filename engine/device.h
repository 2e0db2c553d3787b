// Where a tensor lives.
#pragma once

#include <string>

#include "grapnel/kernels/common/precision.h"

namespace grapnel {

/// The CPU, or one accelerator by number.
struct Device {
  enum class Kind { cpu, cuda } kind = Kind::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  static Device cuda(int index = 0) { return {Kind::cuda, index}; }
  bool operator==(const Device&) const = default;
};

/// "cpu" or "cuda:0".
std::string to_string(Device device);

/// Reads "cpu", "cuda" (the first) or "cuda:N". Throws NameError for anything else, DeviceError for a device
/// that cannot be used here, saying why.
Device parse_device(const std::string& text);

/// Where this thread makes tensors for which no device is named: the CPU, or what the innermost DefaultDevice
/// says.
Device default_device();

/// Sets that for a scope and restores it at its end: what Tensor's functions make (zeros, from, randn, ...),
/// and so the parameters of modules made in the scope, is on `device`. Random numbers are those of the CPU.
/// What concerns the CPU stays there: memory of the caller (from_blob), files, pictures, what an optimizer
/// saves as numbers. Results of operations are where their operands are, whatever the default. Throws
/// DeviceError for a device that cannot be used here.
class DefaultDevice {
 public:
  explicit DefaultDevice(Device device);
  ~DefaultDevice();
  DefaultDevice(const DefaultDevice&) = delete;
  DefaultDevice& operator=(const DefaultDevice&) = delete;

 private:
  Device previous_;
};

/// CUDA devices that can be used; 0 in a build without CUDA and on a machine without one.
int cuda_device_count();

/// Waits until the device has done everything it was asked to; what went wrong on it is thrown (DeviceError)
/// here or by a later operation. Nothing to do on the CPU.
void synchronize(Device device);

/// How matrix products and convolutions of float32 tensors multiply on a CUDA device: fp32 (the default),
/// tf32 or bf16, of which tensor cores take operands with 10 or 7 bits of fraction. Sums and weights are
/// float32 in all three; activations, too, but that bf16 keeps those made under a Fusion as bfloat16, as
/// PyTorch's autocast does. PyTorch's default is fp32 for products, tf32 for convolutions.
using kernels::Precision, kernels::precision, kernels::set_precision;
/// Reads "fp32", "tf32" or "bf16". Throws NameError for anything else.
Precision parse_precision(const std::string& text);

/// Threads used by the CPU kernels; 0 means every core this process may run on. No thread starts before first
/// use.
void set_num_threads(int threads);
int num_threads();

/// Name of the CPU kernels in use: "avx512", "avx2", "portable" or "reference". The environment variable
/// GRAPNEL_KERNEL forces one; throws NameError if it names none that runs on this machine.
const char* kernel_name();

}  // namespace grapnel
