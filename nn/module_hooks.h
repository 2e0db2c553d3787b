// A module's four hook lists, and how one hook of them is run. Internal to nn.
#pragma once

#include <atomic>

#include "grapnel/nn/module.h"

namespace grapnel::nn {

struct ForwardHookEntry {
  ForwardHook function;
  bool always_call;
};

/// The graph holds a module's lists weakly: they tell it whether the module still lives.
struct ModuleHooks {
  Module* owner = nullptr;  // null for the global lists
  HookList<ForwardPreHook> forward_pre;
  HookList<ForwardHookEntry> forward;
  HookList<BackwardPreHook> backward_pre;
  HookList<BackwardHook> backward;

  bool empty() const {
    return forward_pre.empty() && forward.empty() && backward_pre.empty() && backward.empty();
  }
};

/// The lists that every module shares.
ModuleHooks& global_hooks();
/// Set by the first global registration, for good: before that, a call without hooks asks only this.
extern std::atomic<bool> any_global_hook;

/// Throws ShapeError / TypeError unless the gradients a hook returned look like those it saw.
void check_gradients(const Tensors& seen, const Tensors& returned);

/// Rethrows the exception being handled, its message opened by the kind of hook, its name and the module's
/// path: in its class if it is one of the engine's, in an Error otherwise. The original is nested inside.
[[noreturn]] void rethrow_from_hook(const char* kind, const detail::HookEntry& hook, const Module& module);

/// Runs one hook over the list that it may replace.
template <class Call>
void run_hook(const char* kind, const detail::HookEntry& hook, const Module& module, Tensors& values,
              const Call& call) {
  if (hook.removed) return;
  try {
    std::optional<Tensors> replacement = call();
    if (!replacement) return;
    if (replacement->size() != values.size())
      throw ShapeError("returned " + std::to_string(replacement->size()) + " tensors, expected " +
                       std::to_string(values.size()));
    values = std::move(*replacement);
  } catch (...) {
    rethrow_from_hook(kind, hook, module);
  }
}

/// The same for a list of gradients, whose replacements must keep shape and type.
template <class Call>
void run_gradient_hook(const char* kind, const detail::HookEntry& hook, const Module& module, Tensors& values,
                       const Call& call) {
  run_hook(kind, hook, module, values, [&] {
    std::optional<Tensors> replacement = call();
    if (replacement) check_gradients(values, *replacement);
    return replacement;
  });
}

}  // namespace grapnel::nn
