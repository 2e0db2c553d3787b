// Step 3: no matrix of patches, and weights in panels.
//
// New: with channels last, the pixels under one row of the kernel lie in one piece of the picture: the patch
// need not be copied to be read in order. The weights are packed once into panels of output channels, in the
// order in which the sums of a pixel meet them.
//
// What stands in the way: a weight is loaded for one multiplication, as in the step of this name for
// matrices.
#include <algorithm>
#include <vector>

#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/conv2d/steps/steps.h"
#include "grapnel/kernels/gemm/steps/steps.h"

namespace grapnel::kernels::conv2d_steps {
namespace {

constexpr std::int64_t kWidth = 32;

std::size_t panels_size(const Conv2d& p) {
  return static_cast<std::size_t>(ceil_div(p.k, kWidth) * kWidth * p.r * p.s * p.c);
}

void pack_panels(const Conv2d& p, float* packed, const float* w) {
  const std::int64_t depth = p.r * p.s * p.c;
  std::vector<float> matrix(as_matrix.size(p));
  as_matrix.pack(p, matrix.data(), w);
  for (std::int64_t k = 0; k < p.k; k += kWidth)
    gemm_steps::pack_panel({1, p.k, depth}, matrix.data(), 0, depth, k, kWidth, packed + k * depth);
}

}  // namespace

const Weights in_panels{panels_size, pack_panels};

void packed(const Conv2d& p, float* y, const float* x, const float* panels) {
  for (std::int64_t k = 0; k < p.k; k += kWidth) {
    const std::int64_t columns = std::min(kWidth, p.k - k);
    const float* panel = panels + k * p.r * p.s * p.c;
    for (std::int64_t at = 0; at < p.n * p.oh * p.ow; ++at) {
      const std::int64_t n = at / (p.oh * p.ow), ih = at / p.ow % p.oh - p.pad_h, iw = at % p.ow - p.pad_w;
      // The part of the kernel's columns that lies in the picture.
      const std::int64_t s0 = std::max<std::int64_t>(0, -iw), s1 = std::min(p.s, p.w - iw);
      float sums[kWidth] = {};
      for (std::int64_t r = std::max<std::int64_t>(0, -ih); r < std::min(p.r, p.h - ih); ++r) {
        const float* piece = x + ((n * p.h + ih + r) * p.w + iw) * p.c;
        const float* weights = panel + r * p.s * p.c * kWidth;
        for (std::int64_t i = s0 * p.c; i < s1 * p.c; ++i) {
          for (std::int64_t j = 0; j < kWidth; ++j) sums[j] += piece[i] * weights[i * kWidth + j];
        }
      }
      std::copy(sums, sums + columns, y + at * p.k + k);
    }
  }
}

}  // namespace grapnel::kernels::conv2d_steps
