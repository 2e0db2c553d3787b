// Module: a named tree of parameters, buffers and children, called through its hooks.
//
// `module(x)` is the only way to run one: hooks before, forward, hooks after. Read next: module_call.cpp (the
// order of hooks and how the backward hooks enter the graph), layers.h, resnet.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grapnel/nn/hooks.h"

namespace grapnel::nn {

struct ModuleHooks;  // module_hooks.h

class Module : public std::enable_shared_from_this<Module> {
 public:
  virtual ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Runs the module with all its hooks. Throws ShapeError if it does not return exactly one tensor.
  Tensor operator()(const Tensor& input);
  Tensors operator()(const Tensors& inputs);

  /// "Conv2d", "BasicBlock", ...
  virtual std::string type_name() const = 0;
  /// One line of settings for the printed tree, such as "64, 64, kernel_size=3".
  virtual std::string settings() const { return {}; }

  // --- the tree; names are dotted paths from here, as in torchvision ---
  /// The module at "layer4.1.conv2"; "" is this one. Throws NameError listing what exists near the name.
  Module& at(std::string_view path);
  /// Its path from the root of the tree it was first registered in; "" for a root.
  std::string path() const;
  /// Itself ("") and all descendants, parents first, in registration order; a shared module appears once.
  std::vector<std::pair<std::string, Module*>> named_modules();
  const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& named_children() const {
    return children_;
  }
  /// Without the absent ones; a parameter shared by several modules appears once, under its first name.
  NamedTensors named_parameters();
  NamedTensors named_buffers();
  Tensors parameters();
  /// Parameters and buffers of each module before its children's, as in PyTorch. Shares memory with the
  /// module.
  NamedTensors state_dict();

  /// Copies values in by name, converting the element type. If strict (otherwise only for wrong shapes),
  /// throws NameError with the complete report and changes nothing. `num_batches_tracked` may always be
  /// absent. With `assign` nothing is copied where type, device and strides agree and no post hook looks on:
  /// the module sees the memory of `state`, such as a mapped file's, and changes there are changes here.
  LoadReport load_state_dict(const NamedTensors& state, bool strict = true, bool assign = false);

  // --- modes ---
  bool training() const { return training_; }
  virtual void train(bool training = true);
  void eval() { train(false); }
  /// Converts all floating parameters and buffers in place (their gradients are dropped).
  void to(DType type);
  /// Moves all floating parameters, their gradients, and floating buffers; counters stay where they are. The
  /// tensors stay the same ones: optimizers and hooks keep working. All or nothing. Throws DeviceError.
  void to(Device device);
  /// Whether a call of it or of a module in it is in training mode, or has a hook around it.
  bool observed() const;
  /// Calls `visit` with each parameter and buffer of it and of the modules in it, in a fixed order; shared
  /// ones come again. Takes no memory.
  void for_each_tensor(const std::function<void(const Tensor&)>& visit) const;
  void set_requires_grad(bool requires_grad);
  void zero_grad();

  // --- hooks; hooks.h has their signatures, README.md tells their order ---
  HookHandle register_forward_pre_hook(ForwardPreHook hook, HookOptions options = {});
  HookHandle register_forward_hook(ForwardHook hook, HookOptions options = {});
  /// Sees d/d(outputs) before the module's own backward.
  HookHandle register_full_backward_pre_hook(BackwardPreHook hook, HookOptions options = {});
  /// Sees d/d(inputs) and d/d(outputs) after the module's own backward; the slot of an input that needs no
  /// gradient is unset. Does not fire once the module is gone.
  HookHandle register_full_backward_hook(BackwardHook hook, HookOptions options = {});
  /// Around each state_dict() / load_state_dict() that this module takes part in.
  HookHandle register_state_dict_pre_hook(StateDictPreHook hook, HookOptions options = {});
  HookHandle register_state_dict_post_hook(StateDictHook hook, HookOptions options = {});
  HookHandle register_load_state_dict_pre_hook(LoadStateDictPreHook hook, HookOptions options = {});
  HookHandle register_load_state_dict_post_hook(LoadStateDictHook hook, HookOptions options = {});
  HookNames hook_names() const;
  /// Removes every hook of this module.
  void clear_hooks();

 protected:
  Module();

  /// What the module computes. Override the first, or the second for several inputs or outputs.
  virtual Tensor forward(const Tensor& input);
  virtual Tensors forward_list(const Tensors& inputs);

  /// Makes `tensor` a leaf that requires a gradient and gives it a name. An undefined tensor registers an
  /// absent parameter. Throws NameError if the name is empty, taken or contains a dot (so do the other two).
  Tensor& register_parameter(std::string name, Tensor tensor);
  Tensor& register_buffer(std::string name, Tensor tensor);
  template <class M>
  std::shared_ptr<M> register_module(std::string name, std::shared_ptr<M> module) {
    add_child(std::move(name), module);
    return module;
  }

 private:
  // Stable addresses: layers keep references to their parameters.
  using NamedSlots = std::vector<std::pair<std::string, std::unique_ptr<Tensor>>>;
  friend struct HookedCall;
  friend struct StateLoader;
  friend class HookExplainer;

  void add_child(std::string name, std::shared_ptr<Module> child);
  Tensor& add_slot(NamedSlots& slots, std::string name, Tensor tensor);
  void check_free(const std::string& name) const;
  NamedTensors named_slots(NamedSlots Module::*slots);
  void collect_state(NamedTensors& state, const std::string& prefix);
  ModuleHooks& hooks();
  /// Whether a call has hooks to run.
  bool hooked() const;

  NamedSlots parameters_, buffers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
  Module* parent_ = nullptr;            // where it was first registered; cleared when that dies
  std::shared_ptr<ModuleHooks> hooks_;  // made on first use; the graph holds it weakly
  bool training_ = true;
};

}  // namespace grapnel::nn
