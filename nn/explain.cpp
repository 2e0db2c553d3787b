#include "grapnel/nn/explain.h"

#include <algorithm>
#include <sstream>

#include "grapnel/nn/module_hooks.h"

namespace grapnel::nn {
namespace {

/// Around saving and loading, which no call and no pass belong to.
bool is_state_hook(const HookRecord& hook) {
  return std::string_view(hook.kind).find("state_dict") != std::string_view::npos;
}

/// Why a live hook has not fired in the last call of its module, nor in a backward pass since.
std::string reason(const HookRecord& hook, const CallRecord& call) {
  if (is_state_hook(hook)) return "nothing was saved or loaded since it was registered";
  if (call.started < hook.registered) return "its module was not called since it was registered";
  if (call.outcome == CallOutcome::threw) return "the last call threw";
  if (std::string_view(hook.kind).starts_with("forward")) return "it was registered while its list ran";
  switch (call.outcome) {
    case CallOutcome::inference_mode:
      return "the last call ran in inference mode";
    case CallOutcome::no_grad:
      return "the last call ran without recording (NoGrad)";
    case CallOutcome::no_gradient_needed:
      return "no input and no parameter requires a gradient";
    case CallOutcome::cut:
      return "no output requires a gradient, although an input or parameter does: forward cut the graph";
    default:
      return call.reached_outputs > call.started
                 ? "a backward pass reached the outputs of its module, but not the inputs"
                 : "no backward pass has reached its module since the last call";
  }
}

}  // namespace

/// Reads the records, which are Module's own.
class HookExplainer {
 public:
  explicit HookExplainer(Module& root) {
    for (const auto& [path, module] : root.named_modules())
      if (module->hooks_) add(*module, *module->hooks_);
    std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
      return (a.event ? a.event : UINT64_MAX) < (b.event ? b.event : UINT64_MAX);
    });
  }

  std::vector<HookReport> reports() {
    std::vector<HookReport> result;
    std::size_t order = 0;
    for (Entry& entry : entries_) {
      if (entry.event) entry.report.order = ++order;
      result.push_back(std::move(entry.report));
    }
    return result;
  }

 private:
  struct Entry {
    std::uint64_t event;  // when it last fired, if that counts
    HookReport report;
  };

  void add(const Module& module, ModuleHooks& hooks) {
    std::lock_guard lock(hooks.records_mutex);
    for (const auto& hook : hooks.records) {
      const std::uint64_t last = hook->last_fired, started = hooks.call.started;
      const bool fired = last > started || (last && is_state_hook(*hook));
      const bool removed = !hook->handle.active();
      entries_.push_back({fired ? last : 0,
                          {.hook = describe(*hook, module),
                           .fired = hook->fired,
                           .removed = removed,
                           .reason = fired     ? ""
                                     : removed ? "it was removed"
                                               : reason(*hook, hooks.call)}});
    }
  }

  std::vector<Entry> entries_;
};

std::vector<HookReport> hook_reports(Module& module) {
  return HookExplainer(module).reports();
}

std::string explain_hooks(Module& module) {
  std::ostringstream out;
  for (const HookReport& report : hook_reports(module)) {
    if (report.order)
      out << report.order << ". " << report.hook << ": fired" << (report.removed ? ", removed since" : "");
    else
      out << "-  " << report.hook << ": " << report.reason;
    out << " (" << report.fired << " in all)\n";
  }
  return out.tellp() > 0 ? out.str() : "no hooks were registered\n";
}

}  // namespace grapnel::nn
