// Module: a named tree of parameters, buffers and children, called through its hooks.
//
// `module(x)` is the only way to run one: hooks before, forward, hooks after. Read next: module_call.cpp (the order of
// hooks and how the backward hooks enter the graph), layers.h, resnet.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grapnel/engine/hooks.h"
#include "grapnel/engine/tensor.h"

namespace grapnel::nn {

class Module;

/// Each hook may return a replacement list of the same length, or nothing.
using ForwardPreHook = std::function<std::optional<Tensors>(Module&, const Tensors& inputs)>;
using ForwardHook = std::function<std::optional<Tensors>(Module&, const Tensors& inputs, const Tensors& outputs)>;
using BackwardPreHook = std::function<std::optional<Tensors>(Module&, const Tensors& grad_outputs)>;
using BackwardHook =
    std::function<std::optional<Tensors>(Module&, const Tensors& grad_inputs, const Tensors& grad_outputs)>;

struct HookOptions {
  bool prepend = false;      ///< run before the hooks already there
  bool always_call = false;  ///< forward hooks: also when forward throws
  std::string name;          ///< shown when the hook throws, and when hooks are listed
};

/// Name -> tensor, in registration order.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

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

  // --- the tree; names are dotted paths from here, as in torchvision ----------------------------------------------
  /// The module at "layer4.1.conv2"; "" is this one. Throws NameError listing what exists near the name.
  Module& at(std::string_view path);
  /// Itself ("") and all descendants, parents first, in registration order; a shared module appears once.
  std::vector<std::pair<std::string, Module*>> named_modules();
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> named_children() const;
  NamedTensors named_parameters();
  NamedTensors named_buffers();
  Tensors parameters();
  /// Parameters and buffers of each module before its children's, as PyTorch orders them. Shares memory with the module.
  NamedTensors state_dict();

  /// What load_state_dict found wrong.
  struct LoadReport {
    std::vector<std::string> missing, unexpected, mismatched;
    bool ok() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  };
  /// Copies values in by name, converting the element type. If strict (otherwise only for wrong shapes), throws NameError
  /// with the complete report and changes nothing. `num_batches_tracked` may always be absent.
  LoadReport load_state_dict(const NamedTensors& state, bool strict = true);

  // --- modes ------------------------------------------------------------------------------------------------------
  bool training() const { return training_; }
  virtual void train(bool training = true);
  void eval() { train(false); }
  /// Converts all floating parameters and buffers in place (their gradients are dropped).
  void to(DType type);
  void set_requires_grad(bool requires_grad);
  void zero_grad();

  // --- hooks (../engine/README.md and README.md tell their order) -------------------------------------------------
  HookHandle register_forward_pre_hook(ForwardPreHook hook, HookOptions options = {});
  HookHandle register_forward_hook(ForwardHook hook, HookOptions options = {});
  /// Sees d/d(outputs) before the module's own backward.
  HookHandle register_full_backward_pre_hook(BackwardPreHook hook, HookOptions options = {});
  /// Sees d/d(inputs) and d/d(outputs) after the module's own backward; an input that needs no gradient has an unset slot.
  HookHandle register_full_backward_hook(BackwardHook hook, HookOptions options = {});
  /// Removes every hook of this module.
  void clear_hooks();

 protected:
  Module();

  /// What the module computes. Override the one with one tensor, or the one with lists.
  virtual Tensor forward(const Tensor& input);
  virtual Tensors forward(const Tensors& inputs);

  /// Makes `tensor` a leaf that requires a gradient and gives it a name. An undefined tensor registers an absent parameter.
  Tensor& register_parameter(std::string name, Tensor tensor);
  Tensor& register_buffer(std::string name, Tensor tensor);
  template <class M>
  std::shared_ptr<M> register_module(std::string name, std::shared_ptr<M> module) {
    add_child(std::move(name), module);
    return module;
  }

 private:
  struct Hooks;
  friend struct HookedCall;

  void add_child(std::string name, std::shared_ptr<Module> child);

  // Stable addresses: layers keep references to their parameters.
  std::vector<std::pair<std::string, std::unique_ptr<Tensor>>> parameters_, buffers_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
  std::unique_ptr<Hooks> hooks_;  // made on first registration
  bool training_ = true;
};

// The same four kinds for every module of the process; they run before a module's own.
HookHandle register_global_forward_pre_hook(ForwardPreHook hook, HookOptions options = {});
HookHandle register_global_forward_hook(ForwardHook hook, HookOptions options = {});
HookHandle register_global_full_backward_pre_hook(BackwardPreHook hook, HookOptions options = {});
HookHandle register_global_full_backward_hook(BackwardHook hook, HookOptions options = {});

}  // namespace grapnel::nn
