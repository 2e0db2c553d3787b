// A network made ready to be asked.
#pragma once

#include <memory>

#include "grapnel/nn/module.h"

namespace grapnel {

/// Answers with net(x), recording nothing, layers computed together (engine/fusion.h). Hooks on any of its
/// modules are called as ever, and what they return takes effect.
class Plan {
 public:
  /// Runs the net twice on `example`, so that from the first answer on weights are packed and nothing is
  /// allocated for inputs of its shape. Throws Error for a net in training mode, whose batch norms that would
  /// change, and whatever the net throws.
  Plan(std::shared_ptr<nn::Module> net, const Tensor& example);

  /// Inputs of other shapes are right, too; their first two answers take longer.
  Tensor operator()(const Tensor& x) const;

 private:
  std::shared_ptr<nn::Module> net_;
};

/// For gradients, keep a Fusion around the forward and the backward pass instead.
inline Plan plan(std::shared_ptr<nn::Module> net, const Tensor& example) {
  return {std::move(net), example};
}

}  // namespace grapnel
