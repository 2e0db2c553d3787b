#include "grapnel/nn/optim.h"

#include <unordered_set>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/module_hooks.h"

namespace grapnel::nn {
namespace {

HookHandle add(HookList<StepHook>& list, const char* kind, StepHook hook, std::string name) {
  if (!hook) throw Error(std::string(kind) + " hook: an empty function was registered, expected a hook");
  return list.add(std::move(hook), std::move(name));
}

}  // namespace

Optimizer::Optimizer(const std::vector<Group>& groups, std::vector<std::string> slots)
    : slot_names_(std::move(slots)) {
  for (std::size_t group = 0; group < groups.size(); ++group) {
    for (const Tensor& parameter : groups[group].parameters) {
      parameters_.push_back(parameter);
      group_of_.push_back(group);
    }
    initial_lrs_.push_back(groups[group].initial_lr);
  }
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
  histories_.assign(parameters_.size(), {0, Tensors(slot_names_.size())});
}

void Optimizer::zero_grad() {
  for (const Tensor& parameter : parameters_) parameter.set_grad({});
}

void Optimizer::step() {
  run(pre_hooks_, "step pre hook");
  {
    NoGrad no_grad;
    PoolVector<Update> updates;
    std::size_t group = 0;
    const auto flush = [&] {
      if (!updates.empty()) update(group, updates);
      for (const auto& [rows, gradient, history] : updates) {
        const Tensor& parameter = parameters_[static_cast<std::size_t>(history - histories_.data())];
        if (rows.is_same(parameter))
          parameter.storage()->bump_version();
        else
          parameter.copy_(rows);
      }
      updates.clear();
    };
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const Tensor& parameter = parameters_[i];
      const Tensor gradient = parameter.grad();
      if (!gradient.defined()) continue;
      History& history = histories_[i];
      ++history.step;
      for (Tensor& slot : history.slots)
        if (slot.defined()) slot = slot.to(gradient.device());  // the network may have moved
      if (!updates.empty() &&
          (group != group_of_[i] || updates[0].parameter.dtype() != parameter.dtype() ||
           updates[0].parameter.device() != parameter.device() || updates[0].history->step != history.step))
        flush();
      group = group_of_[i];
      // Parameters are themselves row-major, but for unusual strides.
      updates.push_back({parameter.contiguous(), gradient.contiguous(), &history});
    }
    flush();
  }
  run(post_hooks_, "step post hook");
}

double Optimizer::initial_lr(std::size_t group) const {
  check_group(group);
  return initial_lrs_[group];
}

void Optimizer::check_group(std::size_t group) const {
  if (group >= group_count())
    throw NameError("Optimizer: no group " + std::to_string(group) + "; there are " +
                    std::to_string(group_count()) + ", counted from 0");
}

void Optimizer::check_not_negative(const char* optimizer, const char* setting, double value) {
  if (!(value >= 0))
    throw Error(std::string(optimizer) + ": " + setting + " is " + std::to_string(value) +
                ", expected at least 0");
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

}  // namespace grapnel::nn
