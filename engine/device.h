// Where a tensor lives.
#pragma once

#include <string>

namespace grapnel {

/// The CPU, or one accelerator by number.
struct Device {
  enum class Kind { cpu, cuda } kind = Kind::cpu;
  int index = 0;

  bool operator==(const Device&) const = default;
};

/// "cpu" or "cuda:0".
std::string to_string(Device device);

/// Reads "cpu", "cuda" or "cuda:N". Throws NameError for anything else and for a device this build cannot
/// use.
Device parse_device(const std::string& text);

/// Threads used by the CPU kernels; 0 means every core this process may run on. No thread starts before first
/// use.
void set_num_threads(int threads);
int num_threads();

/// Name of the CPU kernels in use: "avx512", "avx2", "portable" or "reference". The environment variable
/// GRAPNEL_KERNEL forces one; throws NameError if it names none that runs on this machine.
const char* kernel_name();

}  // namespace grapnel
