// A module's hook lists, the notes that explain_hooks reads, and how one hook is run. Internal to nn.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "grapnel/nn/module.h"

namespace grapnel::nn {

/// Numbers registrations, calls and firings in one sequence, so that they can be compared. Starts at 1.
inline std::uint64_t next_event() {
  constinit static std::atomic<std::uint64_t> events{0};
  return events.fetch_add(1, std::memory_order_relaxed) + 1;
}

/// Who a hook is, and when it fired.
struct HookRecord {
  const char* kind;  // "forward pre", ...
  std::string name;
  HookHandle handle;
  std::uint64_t registered;
  std::atomic<std::uint64_t> fired{0}, last_fired{0};
};

/// A hook that notes when it runs.
template <class Function>
struct Noted {
  Function function;
  std::shared_ptr<HookRecord> record;
  bool always_call = false;

  template <class... Arguments>
  auto operator()(Arguments&&... arguments) const {
    record->fired.fetch_add(1, std::memory_order_relaxed);
    record->last_fired.store(next_event(), std::memory_order_relaxed);
    return function(std::forward<Arguments>(arguments)...);
  }
};

/// What became of a call, as far as it decides whether backward hooks can fire.
enum class CallOutcome : std::uint8_t {
  threw,
  recorded,
  no_grad,
  inference_mode,
  no_gradient_needed,  // by no input and no parameter
  cut,                 // one of them needs a gradient, but no output does
};

/// The last call of a module that had hooks, in events; 0 is never.
struct CallRecord {
  std::atomic<std::uint64_t> started{0}, reached_outputs{0};
  std::atomic<CallOutcome> outcome{CallOutcome::threw};
};

/// The graph holds a module's lists weakly: they tell it whether the module still lives.
struct ModuleHooks {
  Module* owner = nullptr;  // null for the global lists
  HookList<Noted<ForwardPreHook>> forward_pre;
  HookList<Noted<ForwardHook>> forward;
  HookList<Noted<BackwardPreHook>> backward_pre;
  HookList<Noted<BackwardHook>> backward;
  HookList<Noted<StateDictPreHook>> state_dict_pre;
  HookList<Noted<StateDictHook>> state_dict;
  HookList<Noted<LoadStateDictPreHook>> load_state_dict_pre;
  HookList<Noted<LoadStateDictHook>> load_state_dict;

  CallRecord call;
  std::mutex records_mutex;
  std::vector<std::shared_ptr<HookRecord>> records;  // the registered ones and the last few removed

  /// Whether a call may go straight to forward.
  bool empty() const {
    return forward_pre.empty() && forward.empty() && backward_pre.empty() && backward.empty();
  }
};

/// The lists that every module shares.
ModuleHooks& global_hooks();
/// Set by the first global registration, for good: before that, a call without hooks asks only this.
extern std::atomic<bool> any_global_hook;

/// `forward pre hook "name" of layer4 (Sequential)`.
std::string describe(const HookRecord& hook, const Module& module);

/// Throws ShapeError / TypeError unless the gradients a hook returned look like those it saw.
void check_gradients(const Tensors& seen, const Tensors& returned);

/// Calls `run` for a hook of HookList<Noted<...>> unless it was removed; its exceptions name the hook.
template <class Hook, class Run>
void run_hook(const Hook& hook, const Module& module, const Run& run) {
  if (hook.removed) return;
  try {
    run();
  } catch (...) {
    rethrow_from_hook(describe(*hook.function.record, module));
  }
}

/// Runs one hook over the list that it may replace.
template <class Hook, class Call>
void run_replacing_hook(const Hook& hook, const Module& module, Tensors& values, const Call& call) {
  run_hook(hook, module, [&] {
    std::optional<Tensors> replacement = call();
    if (!replacement) return;
    if (replacement->size() != values.size())
      throw ShapeError("returned " + std::to_string(replacement->size()) + " tensors, expected " +
                       std::to_string(values.size()));
    values = std::move(*replacement);
  });
}

/// The same for a list of gradients, whose replacements must keep shape and type.
template <class Hook, class Call>
void run_gradient_hook(const Hook& hook, const Module& module, Tensors& values, const Call& call) {
  run_replacing_hook(hook, module, values, [&] {
    std::optional<Tensors> replacement = call();
    if (replacement) check_gradients(values, *replacement);
    return replacement;
  });
}

}  // namespace grapnel::nn
