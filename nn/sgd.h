// Stochastic gradient descent, as in PyTorch.
#pragma once

#include "grapnel/nn/optim.h"

namespace grapnel::nn {

struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;  ///< needs a momentum and no dampening
};

/// With g = gradient + weight_decay * p, and v = momentum * v + (1 - dampening) * g (v = g in the first
/// step): p -= lr * g without momentum, lr * (g + momentum * v) with nesterov, lr * v otherwise.
class SGD : public GroupedOptimizer<SGDOptions> {
 public:
  /// Throws Error for settings out of range.
  explicit SGD(const Groups& groups);
  explicit SGD(Tensors parameters, const SGDOptions& options = {});

 protected:
  bool keeps_slots(std::size_t group) const override;
  void update(std::size_t group, Updates updates) override;
};

}  // namespace grapnel::nn
