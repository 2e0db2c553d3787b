// The ladder of the convolution: how its speed comes about, one idea a file, from the definition to
// Winograd's tiles. Read ../../gemm/steps first, then the files in their order; `grapnel bench --ladder`
// times them.
//
// Activations are channels last, x (N,H,W,C) and y (N,OH,OW,K). Strides, dilations and groups are 1; the
// last step takes 3x3 kernels only (winograd_applies).
#pragma once

#include <cstddef>

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels::conv2d_steps {

/// The order in which a step reads the weights. A network packs them once and uses them for every picture.
struct Weights {
  std::size_t (*size)(const Conv2d& shape);
  /// `w` is dense (K,C,R,S), `packed` 64-byte aligned.
  void (*pack)(const Conv2d& shape, float* packed, const float* w);
};
extern const Weights as_given, as_matrix, in_panels, in_wide_panels, in_tiles;

using Convolve = void(const Conv2d& shape, float* y, const float* x, const float* packed);
Convolve naive, im2col, packed, vectorised, threaded, winograd;

struct Step {
  const char* name;
  const char* idea;
  bool threads;  // whether it uses num_threads() of them; otherwise one
  const Weights* weights;
  Convolve* convolve;
};

inline constexpr Step kSteps[] = {
    {"naive", "the definition", false, &as_given, naive},
    {"im2col", "a matrix of patches, and a matrix product", false, &as_matrix, im2col},
    {"packed", "the patches where they lie, weights in panels", false, &in_panels, packed},
    {"vectorised", "tiles of sums in the widest registers", false, &in_wide_panels, vectorised},
    {"threaded", "bands of rows that fit the cache, shared by threads", true, &in_wide_panels, threaded},
    {"winograd", "a quarter of the multiplications", true, &in_tiles, winograd},
};

}  // namespace grapnel::kernels::conv2d_steps
