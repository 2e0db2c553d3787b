// What `grapnel bench` times, each task a function to be called again and again; and the watch.
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "grapnel/engine/tensor.h"
#include "model.h"

namespace grapnel::tools {

using Task = std::function<void()>;

/// The task named `name` for a batch x (N,3,H,W); the model and x live as long as it. It may change the net's
/// mode, its parameters' requires_grad and, for train, their values.
///   infer          the logits; on a CUDA device by a plan, which replays one graph
///   gradcam        forward, the gradient of each picture's top logit at the usual layer, the maps
///   gradcam-full   the same as tutorials do it: backward through the whole net, and a hook picks it up
///   backward       forward in eval mode, and the gradient of each picture's top logit at x
///   train          forward in train mode, cross entropy, backward, one step of SGD with momentum
Task make_task(const std::string& name, const Model& model, const Tensor& x);

/// Milliseconds of each of `repeat` calls, after `warmup` others. When `patience` ms are over, what is left
/// of the warm-up is left out, and all further calls but one.
std::vector<double> measure(const Task& task, int warmup, int repeat, const std::string& name,
                            double patience = std::numeric_limits<double>::infinity());

}  // namespace grapnel::tools
