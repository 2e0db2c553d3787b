// The call: in which order hooks run around forward, and how the backward hooks enter the graph.
//
//   global forward pre, local forward pre, [inputs stage], forward, global forward, local forward, [outputs
//   stage]
//
// The stages exist only if the module has a full backward (pre) hook. Each is an identity node through which
// all tensors that need a gradient pass, so that the node meets the gradients of the whole list at once.
// Going backward, the outputs stage holds grad_outputs: it runs the pre-hooks and remembers the result for
// the rest of the pass. The inputs stage holds grad_inputs: it runs the full hooks with both. If no input
// needs a gradient there is no inputs stage, and the outputs stage runs the full hooks with unset
// grad_inputs.
//
// The stages hand on aliases (node.h): what changes one in place changes the tensor behind it, with the right
// history. Nodes hold the module and its hooks weakly: a graph keeps no module alive, a hook that keeps
// tensors makes no cycle, and a hook removed before the backward pass does not fire.
#include <algorithm>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/nn/module_hooks.h"

namespace grapnel::nn {
namespace {

template <class Function>
using WeakHooks = std::vector<std::weak_ptr<typename HookList<Noted<Function>>::Entry>>;

/// Calls f with each hook that is still registered.
template <class Function, class F>
void for_each_alive(const std::vector<std::weak_ptr<Function>>& hooks, const F& f) {
  for (const auto& weak : hooks)
    if (const auto hook = weak.lock()) f(*hook);
}

/// What the two stages of one call share.
struct Stages {
  std::weak_ptr<ModuleHooks> lists;  // expires with the module
  WeakHooks<BackwardPreHook> pre_hooks;
  WeakHooks<BackwardHook> full_hooks;
  std::size_t input_count = 0;
  bool has_inputs_stage = false;

  bool wanted() const { return !pre_hooks.empty() || !full_hooks.empty(); }

  void at_outputs(Tensors& grad_outputs) const {
    const auto alive = lists.lock();
    if (!alive) return;
    Module& module = *alive->owner;
    const auto keep = module.weak_from_this().lock();  // as in HookedCall::run
    alive->call.reached_outputs.store(next_event(), std::memory_order_relaxed);
    for_each_alive(pre_hooks, [&](auto& hook) {
      run_gradient_hook(hook, module, grad_outputs, [&] { return hook.function(module, grad_outputs); });
    });
    if (has_inputs_stage) {
      pass_local(this) = std::make_shared<Tensors>(grad_outputs);
    } else {
      Tensors nothing(input_count);
      run_full_hooks(module, nothing, grad_outputs);
    }
  }

  /// Does nothing if the gradient came to the inputs without passing the outputs, as in a second derivative.
  void at_inputs(Tensors& grad_inputs) const {
    // Taken out: a pass through many hooked modules must not hold all their gradients to its end.
    const auto grad_outputs = std::static_pointer_cast<Tensors>(std::exchange(pass_local(this), nullptr));
    const auto alive = lists.lock();
    if (!grad_outputs || !alive) return;
    const auto keep = alive->owner->weak_from_this().lock();
    run_full_hooks(*alive->owner, grad_inputs, *grad_outputs);
  }

  void run_full_hooks(Module& module, Tensors& grad_inputs, const Tensors& grad_outputs) const {
    for_each_alive(full_hooks, [&](auto& hook) {
      run_gradient_hook(hook, module, grad_inputs,
                        [&] { return hook.function(module, grad_inputs, grad_outputs); });
    });
  }
};

/// Passes those of `tensors` that need a gradient through one identity node, which calls `at_gradients` with
/// the whole list of gradients, unset where none is needed. Returns that node; null if no tensor needs a
/// gradient.
template <class AtGradients>
std::shared_ptr<Node> add_stage(const char* name, Tensors& tensors, AtGradients at_gradients) {
  if (!grad_enabled()) return nullptr;
  std::vector<std::size_t> places;
  Tensors before, after;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].defined() || !tensors[i].requires_grad()) continue;
    places.push_back(i);
    before.push_back(tensors[i]);
    after.push_back(alias(tensors[i]));
  }
  if (places.empty()) return nullptr;
  after = record(name, std::move(after), before, {}, [=, count = tensors.size()](const Backward& ctx) {
    Tensors gradients(count), passed;
    for (std::size_t i = 0; i < places.size(); ++i) gradients[places[i]] = ctx.grad(i);
    at_gradients(gradients);
    for (const std::size_t place : places) passed.push_back(std::move(gradients[place]));
    return passed;
  });
  for (std::size_t i = 0; i < places.size(); ++i) tensors[places[i]] = after[i];
  return after[0].grad_fn();
}

}  // namespace

/// One call of a module that has hooks, or while there are global ones.
struct HookedCall {
  Module& module;
  Tensors inputs;
  Tensors outputs = {};
  std::vector<const void*> called = {};  // always_call hooks that have had their turn

  Tensors run() {
    const auto keep = module.weak_from_this().lock();  // a hook may drop the last reference to its module
    if (module.hooks_) {
      module.hooks_->call.outcome.store(CallOutcome::threw, std::memory_order_relaxed);
      module.hooks_->call.started.store(next_event(), std::memory_order_relaxed);
    }
    try {
      call();
      if (module.hooks_) module.hooks_->call.outcome.store(outcome(), std::memory_order_relaxed);
    } catch (...) {
      run_always_called();
      throw;
    }
    return std::move(outputs);
  }

  /// Global hooks, then the module's own: those that are registered now.
  template <class Function, class F>
  void for_each_hook(HookList<Function> ModuleHooks::*list, const F& f) const {
    const auto global = (global_hooks().*list).snapshot();
    const auto own = module.hooks_ ? (module.hooks_.get()->*list).snapshot() : decltype(global){};
    for (const auto& hook : global) f(hook);
    for (const auto& hook : own) f(hook);
  }

  void call() {
    Stages stages;
    const auto keep_in = [](auto& list) {
      return [&list](const auto& hook) {
        if (!hook->removed) list.push_back(hook);
      };
    };
    for_each_hook(&ModuleHooks::backward_pre, keep_in(stages.pre_hooks));
    for_each_hook(&ModuleHooks::backward, keep_in(stages.full_hooks));

    for_each_hook(&ModuleHooks::forward_pre, [&](const auto& hook) {
      run_replacing_hook(*hook, module, inputs, [&] { return hook->function(module, inputs); });
    });

    if (stages.wanted())
      call_between(std::make_shared<Stages>(std::move(stages)));
    else
      call_forward();
  }

  void call_forward() {
    outputs = module.forward_list(inputs);
    for_each_hook(&ModuleHooks::forward, [&](const auto& hook) { run_forward_hook(*hook); });
  }

  void call_between(const std::shared_ptr<Stages>& stages) {
    module.hooks();
    stages->lists = module.hooks_;
    stages->input_count = inputs.size();
    const auto inputs_stage =
        add_stage("module_inputs", inputs, [stages](Tensors& gradients) { stages->at_inputs(gradients); });
    stages->has_inputs_stage = inputs_stage != nullptr;
    call_forward();
    const Tensors computed = outputs;
    add_stage("module_outputs", outputs, [stages](Tensors& gradients) { stages->at_outputs(gradients); });
    // An input that was changed in place and returned is the output from now on, whoever holds it.
    for (std::size_t i = 0; i < outputs.size(); ++i)
      for (const Tensor& input : inputs)
        if (inputs_stage && computed[i].is_same(input) && input.grad_fn() != inputs_stage &&
            !outputs[i].is_same(input))
          pass_on_history(outputs[i]);
  }

  void run_forward_hook(const HookList<Noted<ForwardHook>>::Entry& hook) {
    if (hook.function.always_call) called.push_back(&hook);
    run_replacing_hook(hook, module, outputs, [&] { return hook.function(module, inputs, outputs); });
  }

  CallOutcome outcome() const {
    if (module.hooks_->backward_pre.empty() && module.hooks_->backward.empty()) return CallOutcome::recorded;
    const auto needs_gradient = [](const Tensors& tensors) {
      return std::any_of(tensors.begin(), tensors.end(),
                         [](const Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); });
    };
    if (InferenceMode::enabled()) return CallOutcome::inference_mode;
    if (!grad_enabled()) return CallOutcome::no_grad;
    if (needs_gradient(outputs)) return CallOutcome::recorded;
    return needs_gradient(inputs) || needs_gradient(module.parameters()) ? CallOutcome::cut
                                                                         : CallOutcome::no_gradient_needed;
  }

  /// The exception on its way wins over any that these throw.
  void run_always_called() {
    for_each_hook(&ModuleHooks::forward, [&](const auto& hook) {
      if (!hook->function.always_call || std::count(called.begin(), called.end(), hook.get()) > 0) return;
      try {
        run_forward_hook(*hook);
      } catch (...) {
      }
    });
  }
};

bool Module::hooked() const {
  return (any_global_hook.load(std::memory_order_acquire) && !global_hooks().empty()) ||
         (hooks_ && !hooks_->empty());
}

Tensors Module::operator()(const Tensors& inputs) {
  return hooked() ? HookedCall{*this, inputs}.run() : forward_list(inputs);
}

Tensor Module::operator()(const Tensor& input) {
  Tensors outputs = hooked() ? HookedCall{*this, {input}}.run() : forward_list({input});
  if (outputs.size() != 1)
    throw ShapeError(type_name() + ": called for one tensor, it gave " + std::to_string(outputs.size()) +
                     "; call it with a list");
  return std::move(outputs[0]);
}

Tensor Module::forward(const Tensor&) {
  throw Error(type_name() + ": it computes nothing of its own; override forward or forward_list");
}

Tensors Module::forward_list(const Tensors& inputs) {
  if (inputs.size() != 1)
    throw ShapeError(type_name() + ": takes one tensor, got " + std::to_string(inputs.size()));
  return {forward(inputs[0])};
}

}  // namespace grapnel::nn
