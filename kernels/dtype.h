// Element types a buffer can hold. The kernels need the tag only to copy and convert; arithmetic is typed.
#pragma once

#include <cstdint>

namespace grapnel {

/// float32 is the working type, float64 the oracle's; float16, bfloat16, uint8 and boolean are storage
/// types that arithmetic refuses (convert with Tensor::to); int64 holds labels and indices.
enum class DType : std::uint8_t { float32, float64, float16, bfloat16, int64, uint8, boolean };

namespace kernels {

/// bfloat16, as bits: the upper half of a float.
struct BFloat16 {
  std::uint16_t bits;
};
/// IEEE 754's binary16, as bits.
struct Float16 {
  std::uint16_t bits;
};

}  // namespace kernels

}  // namespace grapnel
