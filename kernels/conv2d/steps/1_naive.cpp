// Step 1: the definition. Every output sums over the channels and the taps of the kernel.
//
// What stands in the way: all that ../../gemm/steps/1_naive.cpp has, one sum at a time and jumps in memory;
// and for each multiplication the question whether the tap still lies in the picture.
#include <algorithm>

#include "grapnel/kernels/conv2d/steps/steps.h"

namespace grapnel::kernels::conv2d_steps {
namespace {

std::size_t weights_size(const Conv2d& p) {
  return static_cast<std::size_t>(p.k * p.c * p.r * p.s);
}

void copy_weights(const Conv2d& p, float* packed, const float* w) {
  std::copy(w, w + weights_size(p), packed);
}

}  // namespace

const Weights as_given{weights_size, copy_weights};

void naive(const Conv2d& p, float* y, const float* x, const float* w) {
  for (std::int64_t n = 0; n < p.n; ++n) {
    for (std::int64_t oh = 0; oh < p.oh; ++oh) {
      for (std::int64_t ow = 0; ow < p.ow; ++ow) {
        for (std::int64_t k = 0; k < p.k; ++k) {
          float sum = 0;
          for (std::int64_t c = 0; c < p.c; ++c) {
            for (std::int64_t r = 0; r < p.r; ++r) {
              for (std::int64_t s = 0; s < p.s; ++s) {
                const std::int64_t ih = oh - p.pad_h + r, iw = ow - p.pad_w + s;
                if (ih < 0 || ih >= p.h || iw < 0 || iw >= p.w) continue;
                sum += x[((n * p.h + ih) * p.w + iw) * p.c + c] * w[((k * p.c + c) * p.r + r) * p.s + s];
              }
            }
          }
          y[((n * p.oh + oh) * p.ow + ow) * p.k + k] = sum;
        }
      }
    }
  }
}

}  // namespace grapnel::kernels::conv2d_steps
