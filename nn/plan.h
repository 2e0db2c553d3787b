// A network made ready to be asked.
#pragma once

#include <memory>

#include "grapnel/nn/module.h"

namespace grapnel {

/// Answers with net(x), recording nothing, layers computed together (engine/fusion.h). Hooks on any of its
/// modules are called as ever, and what they return takes effect.
///
/// For inputs on a CUDA device the whole pass is captured as one CUDA graph, for each shape of x, which later
/// answers replay. A graph knows of a network what it has in parameters and buffers: if one of them changes,
/// or set_precision, it is captured again. What a module of your own does beside its operations is not done
/// on a replay, and what it reads elsewhere is as it was. While a hook is registered on any of the modules,
/// or for all, and in training mode, the network runs as it does without a graph; so it does for good once
/// its pass could not be captured, because it waits for the device, copies from or to the CPU, changes x or
/// keeps tensors.
class Plan {
 public:
  /// Runs the net a few times on `example`, so that from the first answer on weights are packed and nothing
  /// is allocated for inputs of its shape, on a CUDA device nothing but the answer. Throws Error for a net in
  /// training mode, whose batch norms that would change, and whatever the net throws.
  Plan(std::shared_ptr<nn::Module> net, const Tensor& example);

  /// Inputs of other shapes are right, too; their first answers take longer, two of them or, on a CUDA
  /// device, three. Graphs of the last 8 shapes are kept. Copies of a plan share them; several threads may
  /// ask.
  Tensor operator()(const Tensor& x) const;

 private:
  class Graphs;

  std::shared_ptr<nn::Module> net_;
  std::shared_ptr<Graphs> graphs_;
};

/// For gradients, keep a Fusion around the forward and the backward pass instead.
inline Plan plan(std::shared_ptr<nn::Module> net, const Tensor& example) {
  return {std::move(net), example};
}

}  // namespace grapnel
