// Step 5: every core, and bands of rows: the direct convolution that Grapnel runs, ../correlate.cpp.
//
// New: the picture is framed and multiplied a band of rows at a time, which stays in the second-level cache
// for all panels; threads share the bands, or the panels where the weights are the larger part to read.
// Weights that are needed next are fetched meanwhile. The same code takes strides, dilations, groups and
// gradients.
//
// What stands in the way: nothing but the number of multiplications.
#include "grapnel/kernels/conv2d/direct.h"
#include "grapnel/kernels/conv2d/steps/steps.h"
#include "grapnel/kernels/gemm/gemm.h"

namespace grapnel::kernels::conv2d_steps {

void threaded(const Conv2d& p, float* y, const float* x, const float* panels) {
  direct_correlate(chosen_microkernel(), p, ConvPass::forward, y, x, panels, {});
}

}  // namespace grapnel::kernels::conv2d_steps
