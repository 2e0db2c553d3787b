// One hook over the gradients of several tensors, wherever in the graph they are.
#pragma once

#include <functional>
#include <string>

#include "grapnel/engine/hooks.h"
#include "grapnel/engine/tensor.h"

namespace grapnel {

/// Sees one gradient per registered tensor; unset for those that the pass does not compute.
using AllGradsHook = std::function<void(const Tensors& gradients)>;
/// Sees the first gradient that is there.
using AnyGradHook = std::function<void(const Tensor& gradient)>;

/// Runs once a pass, when the last of those gradients that the pass computes is there. A pass that fails
/// before does not run it. What belongs to one pass is kept apart: passes may run at the same time. Throws
/// AutogradError if the list is empty or a tensor needs no gradient.
HookHandle register_all_grads_hook(const Tensors& tensors, AllGradsHook hook, std::string name = {});
/// Runs once a pass, with the first of the tensors' gradients.
HookHandle register_any_grad_hook(const Tensors& tensors, AnyGradHook hook, std::string name = {});

}  // namespace grapnel
