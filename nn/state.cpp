// Saving and loading by name, with the hooks around them.
//
//   save   of each module, parents first: pre-hooks, its tensors, its children, post-hooks
//   load   pre-hooks, parents first; match names and shapes; copy; post-hooks, children first
//
// A load is judged after the post-hooks, which may edit the report, and must leave nothing behind if it
// fails: only where such hooks exist are the old values kept meanwhile.
#include <algorithm>
#include <unordered_map>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/module_hooks.h"

namespace grapnel::nn {
namespace {

bool may_be_absent(std::string_view name) {
  return name == "num_batches_tracked" || name.ends_with(".num_batches_tracked");
}

std::string shape_of(const Tensor& tensor) {
  return tensor.defined() ? to_string(tensor.shape()) : "nothing";
}

/// Throws NameError with every finding: "load_state_dict: 1 missing (fc.bias); ...".
void judge(const LoadReport& report, bool strict) {
  if (report.mismatched.empty() && (!strict || report.ok())) return;
  std::string text;
  const auto add = [&text](const std::vector<std::string>& names, const char* what) {
    if (names.empty()) return;
    text += (text.empty() ? "" : "; ") + std::to_string(names.size()) + " " + what + " (";
    for (const std::string& name : names) text += (&name == &names.front() ? "" : ", ") + name;
    text += ")";
  };
  add(report.missing, "missing");
  add(report.unexpected, "unexpected");
  add(report.mismatched, "of another shape");
  throw NameError("load_state_dict: " + text + "; nothing was loaded");
}

using Copies = std::vector<std::pair<Tensor, Tensor>>;  // target and value

void copy_all(const Copies& copies) {
  NoGrad no_grad;
  for (const auto& [target, value] : copies) target.copy_(value);
}

/// What a load would do.
struct Plan {
  LoadReport report;
  Copies copies;
};

Plan match(const NamedTensors& own_state, const NamedTensors& state) {
  Plan plan;
  std::unordered_map<std::string_view, const Tensor*> given;
  for (const auto& [name, tensor] : state)
    if (!given.emplace(name, &tensor).second) plan.report.unexpected.push_back(name + " a second time");

  for (const auto& [name, own] : own_state) {
    const auto found = given.find(name);
    if (found == given.end()) {
      if (!may_be_absent(name)) plan.report.missing.push_back(name);
      continue;
    }
    const Tensor& value = *found->second;
    if (value.defined() && value.shape() == own.shape())
      plan.copies.emplace_back(own, value);
    else
      plan.report.mismatched.push_back(name + ": " + shape_of(value) + " instead of " + shape_of(own));
    given.erase(found);
  }
  for (const auto& [name, tensor] : state)
    if (const auto left = given.find(name); left != given.end() && left->second == &tensor)
      plan.report.unexpected.push_back(name);
  return plan;
}

}  // namespace

NamedTensors Module::state_dict() {
  NamedTensors state;
  collect_state(state, "", true);
  return state;
}

// Unlike named_modules, shared modules and parameters appear under each of their names: a file must hold them
// all.
void Module::collect_state(NamedTensors& state, const std::string& prefix, bool with_hooks) {
  const auto hooks = with_hooks ? hooks_ : nullptr;
  if (hooks)
    for (const auto& hook : hooks->state_dict_pre.snapshot())
      run_hook(*hook, *this, [&] { hook->function(*this, prefix); });
  for (const NamedSlots* slots : {&parameters_, &buffers_})
    for (const auto& [name, slot] : *slots)
      if (slot->defined()) state.emplace_back(prefix + name, slot->detach());
  for (const auto& [name, child] : children_) child->collect_state(state, prefix + name + ".", with_hooks);
  if (hooks)
    for (const auto& hook : hooks->state_dict.snapshot())
      run_hook(*hook, *this, [&] { hook->function(*this, state, prefix); });
}

LoadReport Module::load_state_dict(const NamedTensors& given, bool strict) {
  NamedTensors state = given, own_state;
  run_load_pre_hooks(state, "");
  collect_state(own_state, "", false);
  Plan plan = match(own_state, state);

  const auto modules = named_modules();
  const bool hooked = std::any_of(modules.begin(), modules.end(), [](const auto& entry) {
    return entry.second->hooks_ && !entry.second->hooks_->load_state_dict.empty();
  });
  if (!hooked) {
    judge(plan.report, strict);
    copy_all(plan.copies);
    return plan.report;
  }

  Copies former;
  for (const auto& [name, tensor] : own_state) former.emplace_back(tensor, tensor.clone());
  copy_all(plan.copies);
  try {
    run_load_post_hooks(plan.report);
    judge(plan.report, strict);
  } catch (...) {
    copy_all(former);
    throw;
  }
  return plan.report;
}

void Module::run_load_pre_hooks(NamedTensors& state, const std::string& prefix) {
  if (hooks_ && !hooks_->load_state_dict_pre.empty()) {
    const auto first = std::stable_partition(state.begin(), state.end(), [&prefix](const auto& entry) {
      return !entry.first.starts_with(prefix);
    });
    NamedTensors own(first, state.end());
    state.erase(first, state.end());
    for (const auto& hook : hooks_->load_state_dict_pre.snapshot())
      run_hook(*hook, *this, [&] { hook->function(*this, own, prefix); });
    state.insert(state.end(), own.begin(), own.end());
  }
  for (const auto& [name, child] : children_) child->run_load_pre_hooks(state, prefix + name + ".");
}

void Module::run_load_post_hooks(LoadReport& report) {
  for (const auto& [name, child] : children_) child->run_load_post_hooks(report);
  if (!hooks_) return;
  for (const auto& hook : hooks_->load_state_dict.snapshot())
    run_hook(*hook, *this, [&] { hook->function(*this, report); });
}

}  // namespace grapnel::nn
