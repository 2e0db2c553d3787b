// Running the recorded graph backwards.
#pragma once

#include <optional>

#include "grapnel/engine/tensor.h"

namespace grapnel {

struct BackwardOptions {
  bool retain_graph = false;  ///< keep saved values, so that the graph can be used again
  bool create_graph = false;  ///< record the backward itself, for higher derivatives (implies retain_graph)
  std::optional<Tensors> inputs = {};  ///< accumulate only into these; without it, into every leaf
};

/// Accumulates the gradients of sum(outputs * gradients) into the leaves' grad. An unset or missing gradient
/// stands for one, allowed for one-element outputs. Throws AutogradError / ShapeError before anything ran if
/// the request is wrong.
void backward(const Tensors& outputs, const Tensors& gradients = {}, const BackwardOptions& options = {});

struct GradOptions {
  bool retain_graph = false;
  bool create_graph = false;
  bool allow_unused = false;  ///< an unset tensor, not an error, for an input the outputs do not depend on
};

/// The gradients of sum(outputs * gradients) with respect to `inputs`, after all hooks; touches no grad
/// field, and runs only the part of the graph that leads to the inputs.
Tensors grad(const Tensors& outputs, const Tensors& inputs, const Tensors& gradients = {},
             const GradOptions& options = {});

}  // namespace grapnel
