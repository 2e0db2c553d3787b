// Letting a convolution wait for what follows it.
#pragma once

#include "grapnel/engine/tensor.h"

namespace grapnel {

/// While one is alive, this thread computes a convolution together with the batch norm, addition and ReLU
/// that follow it, in inference also the max pooling, a linear layer together with its ReLU, and the gradient
/// of a convolution's input together with theirs: in one pass over memory in place of up to four. Results
/// differ from those without it by rounding only; hooks see the same values in the same order, and what they
/// return takes effect. What is still to be computed at the end of the scope is computed there.
///
///     const Fusion fusion;
///     const Tensor logits = net(x);
///
/// A value is fused away only if nobody holds it when elements are asked for: write `y = relu(conv(x)); y =
/// pool(y);`, not `pool(relu(conv(x)))`, whose temporaries live to its end. Scopes nest; the outermost
/// counts.
class Fusion {
 public:
  Fusion();
  ~Fusion();
  Fusion(const Fusion&) = delete;
  Fusion& operator=(const Fusion&) = delete;

  static bool enabled();

 private:
  bool previous_;
};

}  // namespace grapnel
