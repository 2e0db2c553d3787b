// Step 2: a convolution is a matrix product.
//
// New: what an output pixel reads, its patch of R x S x C numbers, is copied into a row of a matrix, with
// zeros where it reaches over the border. That matrix times the weights is the result, and everything known
// of matrix products helps; here it is step 2 of that ladder.
//
// What stands in the way: the matrix. For a 3x3 kernel it is nine times the picture, written and read again.
#include <algorithm>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/conv2d/steps/steps.h"
#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::conv2d_steps {
namespace {

std::size_t matrix_size(const Conv2d& p) {
  return static_cast<std::size_t>(p.r * p.s * p.c * p.k);
}

/// (R,S,C) x K: a patch's numbers lie in the order (R,S,C).
void pack_matrix(const Conv2d& p, float* packed, const float* w) {
  for (std::int64_t tap = 0; tap < p.r * p.s; ++tap) {
    for (std::int64_t c = 0; c < p.c; ++c) {
      for (std::int64_t k = 0; k < p.k; ++k) *packed++ = w[(k * p.c + c) * p.r * p.s + tap];
    }
  }
}

void copy_patch(const Conv2d& p, const float* picture, std::int64_t oh, std::int64_t ow, float* patch) {
  for (std::int64_t r = 0; r < p.r; ++r) {
    for (std::int64_t s = 0; s < p.s; ++s, patch += p.c) {
      const std::int64_t ih = oh - p.pad_h + r, iw = ow - p.pad_w + s;
      const float* pixel = picture + (ih * p.w + iw) * p.c;
      if (ih < 0 || ih >= p.h || iw < 0 || iw >= p.w)
        std::fill(patch, patch + p.c, 0.0f);
      else
        std::copy(pixel, pixel + p.c, patch);
    }
  }
}

}  // namespace

const Weights as_matrix{matrix_size, pack_matrix};

void im2col(const Conv2d& p, float* y, const float* x, const float* matrix) {
  const std::int64_t pixels = p.n * p.oh * p.ow, depth = p.r * p.s * p.c;
  static thread_local Scratch<float> scratch;
  float* patches = scratch.get(static_cast<std::size_t>(pixels * depth));
  for (std::int64_t at = 0; at < pixels; ++at) {
    const std::int64_t n = at / (p.oh * p.ow), oh = at / p.ow % p.oh, ow = at % p.ow;
    copy_patch(p, x + n * p.h * p.w * p.c, oh, ow, patches + at * depth);
  }
  gemm_steps::blocked({pixels, p.k, depth}, y, patches, matrix);
}

}  // namespace grapnel::kernels::conv2d_steps
