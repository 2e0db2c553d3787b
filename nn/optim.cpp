#include "grapnel/nn/optim.h"

#include <unordered_set>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/module_hooks.h"

namespace grapnel::nn {
namespace {

HookHandle add(HookList<StepHook>& list, const char* kind, StepHook hook, std::string name) {
  if (!hook) throw Error(std::string(kind) + " hook: an empty function was registered, expected a hook");
  return list.add(std::move(hook), std::move(name));
}

}  // namespace

// --- any optimizer ---

Optimizer::Optimizer(Tensors parameters) : parameters_(std::move(parameters)) {
  if (parameters_.empty()) throw AutogradError("Optimizer: got no parameters, expected at least one");
  std::unordered_set<const TensorImpl*> seen;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& parameter = parameters_[i];
    const std::string which = "Optimizer: parameter " + std::to_string(i) + " ";
    if (!parameter.defined()) throw AutogradError(which + "is unset");
    if (!parameter.is_leaf() || !parameter.requires_grad())
      throw AutogradError(which + (parameter.is_leaf() ? "requires no gradient" : "is a computed tensor") +
                          ", expected a leaf that requires one");
    if (!seen.insert(parameter.impl().get()).second) throw AutogradError(which + "is in the list twice");
  }
}

void Optimizer::zero_grad() {
  for (const Tensor& parameter : parameters_) parameter.set_grad({});
}

void Optimizer::step() {
  run(pre_hooks_, "step pre hook");
  {
    NoGrad no_grad;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (const Tensor gradient = parameters_[i].grad(); gradient.defined())
        update(i, parameters_[i], gradient.detach());
  }
  run(post_hooks_, "step post hook");
}

HookHandle Optimizer::register_step_pre_hook(StepHook hook, std::string name) {
  return add(pre_hooks_, "step pre", std::move(hook), std::move(name));
}

HookHandle Optimizer::register_step_post_hook(StepHook hook, std::string name) {
  return add(post_hooks_, "step post", std::move(hook), std::move(name));
}

void Optimizer::run(const HookList<StepHook>& hooks, const char* kind) {
  for (const auto& hook : hooks.snapshot())
    hook->run(kind, "", [this](const StepHook& function) { function(*this); });
}

// --- SGD ---

SGD::SGD(Tensors parameters, const SGDOptions& settings)
    : Optimizer(std::move(parameters)), options(settings), velocity_(this->parameters().size()) {
  const auto check = [](const char* name, double value) {
    if (!(value >= 0))
      throw Error("SGD: " + std::string(name) + " is " + std::to_string(value) + ", expected at least 0");
  };
  check("lr", options.lr);
  check("momentum", options.momentum);
  check("weight_decay", options.weight_decay);
  if (options.nesterov && (options.momentum == 0 || options.dampening != 0))
    throw Error("SGD: nesterov needs a momentum above 0 and no dampening, got momentum " +
                std::to_string(options.momentum) + " and dampening " + std::to_string(options.dampening));
}

void SGD::update(std::size_t i, const Tensor& parameter, const Tensor& gradient) {
  Tensor g = options.weight_decay == 0 ? gradient : gradient + parameter * options.weight_decay;
  if (options.momentum != 0) {
    Tensor& v = velocity_[i];
    v = v.defined() ? v * options.momentum + g * (1 - options.dampening) : g.clone();
    g = options.nesterov ? g + v * options.momentum : v;
  }
  add_(parameter, g * -options.lr);
}

}  // namespace grapnel::nn
