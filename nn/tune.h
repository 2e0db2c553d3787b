// Which way of computing each convolution is fastest on this machine: measured, used from then on, and kept
// as text.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grapnel/nn/module.h"

namespace grapnel {

/// One pass of one convolution. What is expected to be fastest depends on its shape alone (kernels/winograd);
/// machines differ.
struct ConvChoice {
  std::string convolution;  ///< "forward n=1 c=64 h=56 ...": the pass and all sizes
  std::string variant;      ///< how it is computed from now on
  /// Every way that computes it and its median time; what the shape alone decides comes first.
  std::vector<std::pair<std::string, double>> milliseconds;
};

/// Times the convolutions that `net` runs for `example`, in their order, in every way, `rounds` times in
/// turns, with the number of threads that is set; with `gradients`, those of input and weights, too. From
/// then on the fastest is used wherever a convolution of that shape comes, if it wins by 3 % or more. The
/// ways differ in rounding: who wants the same bits from run to run keeps the choices. Not while others
/// compute. Throws Error for a net that is not on the CPU, and for rounds < 1.
std::vector<ConvChoice> tune(nn::Module& net, const Tensor& example, bool gradients = false, int rounds = 7);

/// A line for each choice between several ways, the times behind it as a comment.
std::string to_text(const std::vector<ConvChoice>& choices);

/// Uses the choices of a text from to_text; their number. Throws Error that names the line if one is wrong;
/// then nothing has changed.
int use_conv_choices(std::string_view text);

}  // namespace grapnel
