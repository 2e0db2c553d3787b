// The most that this machine multiplies and adds: what the speed of a layer is a share of.
#pragma once

namespace grapnel::tools {

/// GFLOP/s of num_threads() threads that do nothing but multiply and add in registers, in the micro-kernel
/// behind all convolutions and on data that never leaves the first-level cache; the best of a few tries.
double peak_gflops();

}  // namespace grapnel::tools
