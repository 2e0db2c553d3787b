// Registering hooks, and what an exception in one of them looks like to the caller.
#include "grapnel/nn/module_hooks.h"

#include <algorithm>
#include <exception>

namespace grapnel::nn {

constinit std::atomic<bool> any_global_hook{false};

ModuleHooks& global_hooks() {
  static ModuleHooks hooks;
  return hooks;
}

namespace {

ModuleHooks& global_hooks_to_fill() {
  any_global_hook = true;
  return global_hooks();
}

HookHandle add(HookList<ForwardHookEntry>& list, ForwardHook hook, HookOptions options) {
  return list.add({std::move(hook), options.always_call}, std::move(options.name), options.prepend);
}

template <class Function>
HookHandle add(HookList<Function>& list, Function hook, HookOptions options) {
  return list.add(std::move(hook), std::move(options.name), options.prepend);
}

}  // namespace

// --- registering ---

ModuleHooks& Module::hooks() {
  if (!hooks_) {
    hooks_ = std::make_shared<ModuleHooks>();
    hooks_->owner = this;
  }
  return *hooks_;
}

HookHandle Module::register_forward_pre_hook(ForwardPreHook hook, HookOptions options) {
  return add(hooks().forward_pre, std::move(hook), std::move(options));
}

HookHandle Module::register_forward_hook(ForwardHook hook, HookOptions options) {
  return add(hooks().forward, std::move(hook), std::move(options));
}

HookHandle Module::register_full_backward_pre_hook(BackwardPreHook hook, HookOptions options) {
  return add(hooks().backward_pre, std::move(hook), std::move(options));
}

HookHandle Module::register_full_backward_hook(BackwardHook hook, HookOptions options) {
  return add(hooks().backward, std::move(hook), std::move(options));
}

HookHandle register_global_forward_pre_hook(ForwardPreHook hook, HookOptions options) {
  return add(global_hooks_to_fill().forward_pre, std::move(hook), std::move(options));
}

HookHandle register_global_forward_hook(ForwardHook hook, HookOptions options) {
  return add(global_hooks_to_fill().forward, std::move(hook), std::move(options));
}

HookHandle register_global_full_backward_pre_hook(BackwardPreHook hook, HookOptions options) {
  return add(global_hooks_to_fill().backward_pre, std::move(hook), std::move(options));
}

HookHandle register_global_full_backward_hook(BackwardHook hook, HookOptions options) {
  return add(global_hooks_to_fill().backward, std::move(hook), std::move(options));
}

HookNames Module::hook_names() const {
  if (!hooks_) return {};
  return {hooks_->forward_pre.names(), hooks_->forward.names(), hooks_->backward_pre.names(),
          hooks_->backward.names()};
}

void Module::clear_hooks() {
  if (!hooks_) return;
  hooks_->forward_pre.clear();
  hooks_->forward.clear();
  hooks_->backward_pre.clear();
  hooks_->backward.clear();
}

// --- running ---

void check_gradients(const Tensors& seen, const Tensors& returned) {
  for (std::size_t i = 0; i < std::min(seen.size(), returned.size()); ++i) {
    if (!seen[i].defined() || !returned[i].defined()) continue;
    const std::string which = "returned gradient " + std::to_string(i);
    if (returned[i].shape() != seen[i].shape())
      throw ShapeError(which + " of shape " + to_string(returned[i].shape()) + ", expected " +
                       to_string(seen[i].shape()));
    if (returned[i].dtype() != seen[i].dtype())
      throw TypeError(which + " of type " + std::string(name(returned[i].dtype())) + ", expected " +
                      std::string(name(seen[i].dtype())));
  }
}

void rethrow_from_hook(const char* kind, const detail::HookEntry& hook, const Module& module) {
  const std::string path = module.path();
  const std::string where =
      std::string(kind) + " hook" + (hook.name.empty() ? "" : " \"" + hook.name + "\"") + " of " +
      (path.empty() ? module.type_name() : path + " (" + module.type_name() + ")") + ": ";
  try {
    throw;
  } catch (const ShapeError& error) {
    std::throw_with_nested(ShapeError(where + error.what()));
  } catch (const TypeError& error) {
    std::throw_with_nested(TypeError(where + error.what()));
  } catch (const AutogradError& error) {
    std::throw_with_nested(AutogradError(where + error.what()));
  } catch (const NameError& error) {
    std::throw_with_nested(NameError(where + error.what()));
  } catch (const FileError& error) {
    std::throw_with_nested(FileError(where + error.what()));
  } catch (const std::exception& error) {
    std::throw_with_nested(Error(where + error.what()));
  }
}

}  // namespace grapnel::nn
