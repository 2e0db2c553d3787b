// The instruction sets a CPU kernel table can be built for.
#pragma once

#include <cstdint>

namespace grapnel::kernels {

/// reference is the obviously right code everything else is tested against; portable is fast code in plain
/// C++.
enum class Isa : std::uint8_t { reference, portable, avx2, avx512 };

/// Whether this build has code for `isa` and this machine can run it.
inline bool runs_here(Isa isa) noexcept {
  switch (isa) {
    case Isa::reference:
    case Isa::portable:
      return true;
#if defined(__x86_64__) && defined(__GNUC__)
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && runs_here(Isa::avx2);
#else
    case Isa::avx2:
    case Isa::avx512:
      return false;
#endif
  }
  return false;
}

}  // namespace grapnel::kernels
