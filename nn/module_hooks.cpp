// Registering hooks.
#include "grapnel/nn/module_hooks.h"

#include <algorithm>

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

/// Keeps the record for explain_hooks. Where hooks come and go, only the last few removed ones are
/// remembered.
void remember(ModuleHooks& hooks, const std::shared_ptr<HookRecord>& record) {
  constexpr std::size_t kMany = 64;
  std::lock_guard lock(hooks.records_mutex);
  if (hooks.records.size() >= kMany)
    std::erase_if(hooks.records, [](const auto& old) { return !old->handle.active(); });
  hooks.records.push_back(record);
}

template <class Function>
HookHandle add(ModuleHooks& hooks, HookList<Noted<Function>> ModuleHooks::*list, const char* kind,
               Function function, HookOptions options) {
  if (!function) throw Error(std::string(kind) + " hook: an empty function was registered, expected a hook");
  auto record = std::make_shared<HookRecord>();
  record->kind = kind;
  record->name = options.name;
  record->registered = next_event();
  const HookHandle handle =
      (hooks.*list)
          .add({std::move(function), record, options.always_call}, std::move(options.name), options.prepend);
  record->handle = handle;
  remember(hooks, record);
  return handle;
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
  return add(hooks(), &ModuleHooks::forward_pre, "forward pre", std::move(hook), std::move(options));
}

HookHandle Module::register_forward_hook(ForwardHook hook, HookOptions options) {
  return add(hooks(), &ModuleHooks::forward, "forward", std::move(hook), std::move(options));
}

HookHandle Module::register_full_backward_pre_hook(BackwardPreHook hook, HookOptions options) {
  return add(hooks(), &ModuleHooks::backward_pre, "full backward pre", std::move(hook), std::move(options));
}

HookHandle Module::register_full_backward_hook(BackwardHook hook, HookOptions options) {
  return add(hooks(), &ModuleHooks::backward, "full backward", std::move(hook), std::move(options));
}

HookHandle Module::register_state_dict_pre_hook(StateDictPreHook hook, HookOptions options) {
  return add(hooks(), &ModuleHooks::state_dict_pre, "state_dict pre", std::move(hook), std::move(options));
}

HookHandle Module::register_state_dict_post_hook(StateDictHook hook, HookOptions options) {
  return add(hooks(), &ModuleHooks::state_dict, "state_dict post", std::move(hook), std::move(options));
}

HookHandle Module::register_load_state_dict_pre_hook(LoadStateDictPreHook hook, HookOptions options) {
  return add(hooks(), &ModuleHooks::load_state_dict_pre, "load_state_dict pre", std::move(hook),
             std::move(options));
}

HookHandle Module::register_load_state_dict_post_hook(LoadStateDictHook hook, HookOptions options) {
  return add(hooks(), &ModuleHooks::load_state_dict, "load_state_dict post", std::move(hook),
             std::move(options));
}

HookHandle register_global_forward_pre_hook(ForwardPreHook hook, HookOptions options) {
  return add(global_hooks_to_fill(), &ModuleHooks::forward_pre, "forward pre", std::move(hook),
             std::move(options));
}

HookHandle register_global_forward_hook(ForwardHook hook, HookOptions options) {
  return add(global_hooks_to_fill(), &ModuleHooks::forward, "forward", std::move(hook), std::move(options));
}

HookHandle register_global_full_backward_pre_hook(BackwardPreHook hook, HookOptions options) {
  return add(global_hooks_to_fill(), &ModuleHooks::backward_pre, "full backward pre", std::move(hook),
             std::move(options));
}

HookHandle register_global_full_backward_hook(BackwardHook hook, HookOptions options) {
  return add(global_hooks_to_fill(), &ModuleHooks::backward, "full backward", std::move(hook),
             std::move(options));
}

HookNames Module::hook_names() const {
  if (!hooks_) return {};
  return {hooks_->forward_pre.names(),         hooks_->forward.names(),
          hooks_->backward_pre.names(),        hooks_->backward.names(),
          hooks_->state_dict_pre.names(),      hooks_->state_dict.names(),
          hooks_->load_state_dict_pre.names(), hooks_->load_state_dict.names()};
}

void Module::clear_hooks() {
  if (!hooks_) return;
  hooks_->forward_pre.clear();
  hooks_->forward.clear();
  hooks_->backward_pre.clear();
  hooks_->backward.clear();
  hooks_->state_dict_pre.clear();
  hooks_->state_dict.clear();
  hooks_->load_state_dict_pre.clear();
  hooks_->load_state_dict.clear();
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

std::string describe(const HookRecord& hook, const Module& module) {
  const std::string path = module.path();
  return hook_title(std::string(hook.kind) + " hook", hook.name,
                    path.empty() ? module.type_name() : path + " (" + module.type_name() + ")");
}

}  // namespace grapnel::nn
