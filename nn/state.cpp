// Saving and loading by name, with the hooks around them.
//
// Both walk the tree, parents first, and run a module's hooks before it and after its children. Loading
// matches names and shapes on the way. A load that fails must leave nothing behind, and is judged at its end,
// because hooks may edit the report: so values are copied, or their memory taken over, at the end, or, if a
// hook is there to see them loaded, copied on the way, while the former ones are kept.
#include <algorithm>
#include <unordered_set>

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

bool may_take_over(const Tensor& target, const Tensor& value) {
  return value.dtype() == target.dtype() && value.device() == target.device() &&
         value.strides() == target.strides();
}

}  // namespace

NamedTensors Module::state_dict() {
  NamedTensors state;
  collect_state(state, "");
  return state;
}

// Unlike named_modules, shared modules and parameters appear under each of their names: a file must hold them
// all.
void Module::collect_state(NamedTensors& state, const std::string& prefix) {
  if (hooks_)
    for (const auto& hook : hooks_->state_dict_pre.snapshot())
      run_hook(*hook, *this, [&] { hook->function(*this, prefix); });
  for (const NamedSlots* slots : {&parameters_, &buffers_})
    for (const auto& [name, slot] : *slots)
      if (slot->defined()) state.emplace_back(prefix + name, slot->detach());
  for (const auto& [name, child] : children_) child->collect_state(state, prefix + name + ".");
  if (hooks_)
    for (const auto& hook : hooks_->state_dict.snapshot())
      run_hook(*hook, *this, [&] { hook->function(*this, state, prefix); });
}

/// One load on its way through the tree.
struct StateLoader {
  bool copies_at_once;
  LoadReport report = {};
  Copies copies = {};  // to be made
  Copies former = {};  // to be put back if the load fails

  /// `state` holds what is named under `prefix`.
  void load(Module& module, NamedTensors state, const std::string& prefix) {
    if (module.hooks_)
      for (const auto& hook : module.hooks_->load_state_dict_pre.snapshot())
        run_hook(*hook, module, [&] { hook->function(module, state, prefix); });

    std::unordered_set<std::string> known;
    for (const Module::NamedSlots* slots : {&module.parameters_, &module.buffers_})
      for (const auto& [name, slot] : *slots)
        if (slot->defined()) match(*known.insert(prefix + name).first, *slot, state);

    // What nobody below will look at is unexpected here.
    std::vector<NamedTensors> of_children;
    for (const auto& [name, child] : module.children_) {
      auto& of_child = of_children.emplace_back();
      const std::string child_prefix = prefix + name + ".";
      for (const auto& entry : state)
        if (entry.first.starts_with(child_prefix)) {
          of_child.push_back(entry);
          known.insert(entry.first);
        }
    }
    for (const auto& [name, tensor] : state)
      if (name.starts_with(prefix) && !known.count(name)) report.unexpected.push_back(name);

    for (std::size_t i = 0; i < of_children.size(); ++i)
      load(*module.children_[i].second, std::move(of_children[i]), prefix + module.children_[i].first + ".");

    if (module.hooks_)
      for (const auto& hook : module.hooks_->load_state_dict.snapshot())
        run_hook(*hook, module, [&] { hook->function(module, report); });
  }

  void match(const std::string& name, const Tensor& own, const NamedTensors& state) {
    if (copies_at_once) former.emplace_back(own, own.detach().clone());
    const auto found =
        std::find_if(state.begin(), state.end(), [&](const auto& entry) { return entry.first == name; });
    if (found == state.end()) {
      if (!may_be_absent(name)) report.missing.push_back(name);
      return;
    }
    const Tensor& value = found->second;
    if (!value.defined() || value.shape() != own.shape()) {
      report.mismatched.push_back(name + ": " + shape_of(value) + " instead of " + shape_of(own));
    } else if (copies_at_once) {
      copy_all({{own, value}});
    } else {
      copies.emplace_back(own, value);
    }
  }
};

LoadReport Module::load_state_dict(const NamedTensors& state, bool strict, bool assign) {
  const auto modules = named_modules();
  StateLoader loader{std::any_of(modules.begin(), modules.end(), [](const auto& entry) {
    return entry.second->hooks_ && !entry.second->hooks_->load_state_dict.empty();
  })};
  std::unordered_set<std::string_view> names;
  for (const auto& [name, tensor] : state)
    if (!names.insert(name).second) loader.report.unexpected.push_back(name + " a second time");
  try {
    loader.load(*this, state, "");
    judge(loader.report, strict);
  } catch (...) {
    // Backwards: a shared tensor that was loaded under two names comes to its first value last.
    std::reverse(loader.former.begin(), loader.former.end());
    copy_all(loader.former);
    throw;
  }
  if (assign)
    std::erase_if(loader.copies, [](const auto& entry) {
      const auto& [own, value] = entry;
      if (!may_take_over(own, value)) return false;
      own.set_data(value);
      return true;
    });
  copy_all(loader.copies);
  return std::move(loader.report);
}

}  // namespace grapnel::nn
