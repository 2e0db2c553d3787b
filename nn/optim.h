// Optimizers: from gradients to new parameters, with hooks around each step.
//
// An optimizer over one parameter, stepped in that parameter's post-accumulate hook, is
// optimizer-in-backward.
#pragma once

#include <functional>
#include <string>

#include "grapnel/engine/hooks.h"
#include "grapnel/engine/tensor.h"

namespace grapnel::nn {

class Optimizer;

/// Runs before or after a step; may read and change parameters, gradients and settings.
using StepHook = std::function<void(Optimizer&)>;

class Optimizer {
 public:
  /// Throws AutogradError if the list is empty, and for a parameter that is unset, twice in the list, or no
  /// leaf that requires a gradient.
  explicit Optimizer(Tensors parameters);
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  const Tensors& parameters() const { return parameters_; }
  /// Unsets every gradient.
  void zero_grad();
  /// Pre-hooks, then an update, unrecorded, of each parameter that has a gradient, then post-hooks.
  void step();

  /// Each throws Error for an empty function; what a hook throws arrives with its kind and name.
  HookHandle register_step_pre_hook(StepHook hook, std::string name = {});
  HookHandle register_step_post_hook(StepHook hook, std::string name = {});

 protected:
  /// Changes parameters()[i] in place, given its gradient, which must not be changed.
  virtual void update(std::size_t i, const Tensor& parameter, const Tensor& gradient) = 0;

 private:
  void run(const HookList<StepHook>& hooks, const char* kind);

  Tensors parameters_;
  HookList<StepHook> pre_hooks_, post_hooks_;
};

struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;  ///< needs a momentum and no dampening
};

/// With g = gradient + weight_decay * p, and v = momentum * v + (1 - dampening) * g (v = g in the first
/// step): p -= lr * g without momentum, lr * (g + momentum * v) with nesterov, lr * v otherwise. As in
/// PyTorch.
class SGD : public Optimizer {
 public:
  /// Throws Error for settings out of range.
  explicit SGD(Tensors parameters, const SGDOptions& options = {});

  SGDOptions options;  ///< may be changed between steps

 protected:
  void update(std::size_t i, const Tensor& parameter, const Tensor& gradient) override;

 private:
  Tensors velocity_;  // unset before a parameter's first step
};

}  // namespace grapnel::nn
