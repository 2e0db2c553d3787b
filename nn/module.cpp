// The tree: names and modes. Saving and loading are in state.cpp, the call is in module_call.cpp.
#include "grapnel/nn/module.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "grapnel/engine/grad_mode.h"

namespace grapnel::nn {
namespace {

std::string join(std::string_view path, std::string_view name) {
  return path.empty() ? std::string(name) : std::string(path) + "." + std::string(name);
}

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

Module::Module() = default;

Module::~Module() {
  for (const auto& [name, child] : children_)
    if (child->parent_ == this) child->parent_ = nullptr;
}

// --- building ---

void Module::check_free(const std::string& name) const {
  const auto taken = [&name](const auto& list) {
    return std::any_of(list.begin(), list.end(), [&name](const auto& entry) { return entry.first == name; });
  };
  if (name.empty() || name.find('.') != std::string::npos)
    throw NameError(type_name() + ": \"" + name +
                    "\" cannot name a part of it; it must be non-empty and without a dot");
  if (taken(parameters_) || taken(buffers_) || taken(children_))
    throw NameError(type_name() + ": \"" + name + "\" is registered already");
}

Tensor& Module::add_slot(NamedSlots& slots, std::string name, Tensor tensor) {
  check_free(name);
  slots.emplace_back(std::move(name), std::make_unique<Tensor>(std::move(tensor)));
  return *slots.back().second;
}

Tensor& Module::register_parameter(std::string name, Tensor tensor) {
  if (tensor.defined()) {
    if (!tensor.is_leaf()) tensor = tensor.detach();
    tensor.set_requires_grad();
  }
  return add_slot(parameters_, std::move(name), std::move(tensor));
}

Tensor& Module::register_buffer(std::string name, Tensor tensor) {
  return add_slot(buffers_, std::move(name), std::move(tensor));
}

void Module::add_child(std::string name, std::shared_ptr<Module> child) {
  check_free(name);
  if (!child) throw NameError(type_name() + ": \"" + name + "\" is no module but a null pointer");
  if (!child->parent_) child->parent_ = this;
  children_.emplace_back(std::move(name), std::move(child));
}

// --- looking ---

Module& Module::at(std::string_view path) {
  Module* module = this;
  std::size_t start = 0;
  while (!path.empty() && start <= path.size()) {
    const std::size_t end = std::min(path.find('.', start), path.size());
    const std::string_view name = path.substr(start, end - start);
    const auto found = std::find_if(module->children_.begin(), module->children_.end(),
                                    [name](const auto& child) { return child.first == name; });
    if (found == module->children_.end()) {
      std::vector<std::string> names;
      for (const auto& child : module->children_) names.push_back(child.first);
      const std::string where =
          start == 0 ? "the root" : "\"" + std::string(path.substr(0, start - 1)) + "\"";
      throw NameError("no module \"" + std::string(path) + "\": " + where + " (" + module->type_name() +
                      ") has " + (names.empty() ? "no children" : list(names)));
    }
    module = found->second.get();
    start = end + 1;
  }
  return *module;
}

std::string Module::path() const {
  if (!parent_) return {};
  const auto self = std::find_if(parent_->children_.begin(), parent_->children_.end(),
                                 [this](const auto& child) { return child.second.get() == this; });
  return join(parent_->path(), self->first);
}

std::vector<std::pair<std::string, Module*>> Module::named_modules() {
  std::vector<std::pair<std::string, Module*>> result;
  std::unordered_set<Module*> seen;
  const auto visit = [&](const auto& self, Module& module, const std::string& path) -> void {
    if (!seen.insert(&module).second) return;
    result.emplace_back(path, &module);
    for (const auto& [name, child] : module.children_) self(self, *child, join(path, name));
  };
  visit(visit, *this, "");
  return result;
}

NamedTensors Module::named_slots(NamedSlots Module::*slots) {
  NamedTensors result;
  std::unordered_set<const TensorImpl*> seen;
  for (const auto& [path, module] : named_modules())
    for (const auto& [name, slot] : module->*slots)
      if (slot->defined() && seen.insert(slot->impl().get()).second)
        result.emplace_back(join(path, name), *slot);
  return result;
}

NamedTensors Module::named_parameters() {
  return named_slots(&Module::parameters_);
}
NamedTensors Module::named_buffers() {
  return named_slots(&Module::buffers_);
}

Tensors Module::parameters() {
  Tensors result;
  for (auto& [name, tensor] : named_parameters()) result.push_back(std::move(tensor));
  return result;
}

// --- modes ---

void Module::train(bool training) {
  training_ = training;
  for (const auto& [name, child] : children_) child->train(training);
}

void Module::to(DType type) {
  if (!is_floating(type))
    throw TypeError("Module::to: parameters need a floating type, got " + std::string(name(type)));
  std::unordered_map<const TensorImpl*, Tensor> converted;  // a tensor shared by several modules stays shared
  for (const auto& [path, module] : named_modules())
    for (NamedSlots* slots : {&module->parameters_, &module->buffers_})
      for (auto& [name, slot] : *slots) {
        if (!slot->defined() || !is_floating(slot->dtype()) || slot->dtype() == type) continue;
        const auto [entry, first] = converted.try_emplace(slot->impl().get());
        if (first) entry->second = slot->detach().to(type).set_requires_grad(slot->requires_grad());
        *slot = entry->second;
      }
}

void Module::to(Device device) {
  std::unordered_map<const TensorImpl*, std::pair<Tensor, Tensor>> moves;
  for (const auto& [path, module] : named_modules())
    for (const NamedSlots* slots : {&module->parameters_, &module->buffers_})
      for (const auto& [name, slot] : *slots)
        if (slot->defined() && is_floating(slot->dtype()) && slot->device() != device)
          moves.try_emplace(slot->impl().get(), *slot, slot->detach().to(device));
  for (const auto& [impl, move] : moves) move.first.set_data(move.second);
}

void Module::for_each_tensor(const std::function<void(const Tensor&)>& visit) const {
  for (const NamedSlots* slots : {&parameters_, &buffers_})
    for (const auto& [name, slot] : *slots)
      if (slot->defined()) visit(*slot);
  for (const auto& [name, child] : children_) child->for_each_tensor(visit);
}

bool Module::observed() const {
  return training_ || hooked() || std::any_of(children_.begin(), children_.end(), [](const auto& child) {
           return child.second->observed();
         });
}

void Module::set_requires_grad(bool requires_grad) {
  for (const Tensor& parameter : parameters()) parameter.set_requires_grad(requires_grad);
}

void Module::zero_grad() {
  for (const Tensor& parameter : parameters()) parameter.set_grad({});
}

}  // namespace grapnel::nn
