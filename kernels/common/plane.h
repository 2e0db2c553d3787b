// A rectangle of a loop nest: what a kernel compiled for one instruction set gets to see of it.
//
// Files compiled with wider instruction sets include this, so it holds no function with external linkage.
#pragma once

#include <cstdint>

namespace grapnel::kernels {

/// rows x columns elements, with each operand's strides in elements.
template <int Operands>
struct Plane {
  std::int64_t rows, columns;
  std::int64_t row_stride[Operands], column_stride[Operands];
};

}  // namespace grapnel::kernels

/// Before a loop: its iterations do not depend on each other, so the compiler may vectorise although the
/// output may be one of the inputs (x and out the same pointer), which __restrict would forbid.
#if defined(__clang__)
#define GRAPNEL_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#pragma clang diagnostic ignored "-Wpass-failed"  // loops around expf and the like stay scalar
#else
#define GRAPNEL_INDEPENDENT _Pragma("GCC ivdep")
#endif
