// The hooks a module can have: their signatures, their options, and the global ones.
//
// What a hook sees and may change is in README.md; module.h registers them; explain.h tells which fired.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "grapnel/engine/hooks.h"
#include "grapnel/engine/tensor.h"

namespace grapnel::nn {

class Module;

/// Name -> tensor, in registration order.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// --- around a call and its backward pass; each may return a replacement list of the same length, or nothing
using ForwardPreHook = std::function<std::optional<Tensors>(Module&, const Tensors& inputs)>;
using ForwardHook =
    std::function<std::optional<Tensors>(Module&, const Tensors& inputs, const Tensors& outputs)>;
using BackwardPreHook = std::function<std::optional<Tensors>(Module&, const Tensors& grad_outputs)>;
using BackwardHook =
    std::function<std::optional<Tensors>(Module&, const Tensors& grad_inputs, const Tensors& grad_outputs)>;

/// What Module::load_state_dict found wrong.
struct LoadReport {
  std::vector<std::string> missing, unexpected, mismatched;
  bool ok() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
};

// --- around saving and loading; names of this module and its descendants start with `prefix` ("layer4.1.")
using StateDictPreHook = std::function<void(Module&, const std::string& prefix)>;
/// May edit what has been collected so far: at least all that is this module's and its descendants'.
using StateDictHook = std::function<void(Module&, NamedTensors& state, const std::string& prefix)>;
/// May edit what is about to be loaded, of which it sees the names under its prefix.
using LoadStateDictPreHook = std::function<void(Module&, NamedTensors& state, const std::string& prefix)>;
/// Sees the values loaded so far, its module's and its descendants' at least, and may edit the report, by
/// which a strict load is judged in the end.
using LoadStateDictHook = std::function<void(Module&, LoadReport& report)>;

struct HookOptions {
  bool prepend = false;      ///< run before the hooks already there
  bool always_call = false;  ///< forward hooks: also when the call throws; no outputs if forward did
  std::string name;          ///< shown when the hook throws, and when hooks are listed
};

/// The names of a module's hooks, in the order they run; an unnamed one is "".
struct HookNames {
  std::vector<std::string> forward_pre, forward, full_backward_pre, full_backward;
  std::vector<std::string> state_dict_pre, state_dict, load_state_dict_pre, load_state_dict;
};

// For every module of the process; they run before a module's own. All registrations throw Error for an empty
// function.
HookHandle register_global_forward_pre_hook(ForwardPreHook hook, HookOptions options = {});
HookHandle register_global_forward_hook(ForwardHook hook, HookOptions options = {});
HookHandle register_global_full_backward_pre_hook(BackwardPreHook hook, HookOptions options = {});
HookHandle register_global_full_backward_hook(BackwardHook hook, HookOptions options = {});

}  // namespace grapnel::nn
