// One recorded operation: where its gradient goes next, what it saved, and its hooks.
//
// An operation ends with `return record("mul", out, {a, b}, {a, b}, [](const Backward& ctx) -> Tensors
// {...});`. Anybody may record own operations the same way. Read next: backward.cpp, the traversal.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grapnel/engine/hooks.h"
#include "grapnel/engine/tensor.h"

namespace grapnel {

class Node;

/// Output number `output` of `node`; a null node means that no gradient is wanted.
struct Edge {
  std::shared_ptr<Node> node;
  std::size_t output = 0;
};

/// What the gradient of one output must look like.
struct OutputInfo {
  Shape shape;
  DType dtype;
};

/// A tensor kept for the backward pass, with the version it had. An output of the operation is kept without
/// its history, which would be a reference cycle; unpacking puts the history back.
class SavedTensor {
 public:
  SavedTensor() = default;
  /// Throws AutogradError for a tensor made in inference mode.
  SavedTensor(const char* operation, const Tensor& tensor, std::optional<std::size_t> output_number);

  /// Throws AutogradError if the tensor was changed in place since.
  Tensor unpack(const std::shared_ptr<Node>& owner) const;

 private:
  Tensor tensor_;
  std::optional<std::size_t> output_number_;
  std::uint64_t version_ = 0;
};

/// What a backward function sees: the gradients of the outputs, the saved tensors, and which inputs need a
/// gradient.
class Backward {
 public:
  Backward(const Node& node, const Tensors& gradients) : node_(node), gradients_(gradients) {}

  /// Gradient of one output; unset if that output was not used.
  const Tensor& grad(std::size_t output = 0) const { return gradients_[output]; }
  /// The i-th saved tensor. Throws AutogradError if it was freed or changed in place.
  Tensor saved(std::size_t i) const;
  /// Whether input i needs a gradient; the slot of one that does not may stay unset.
  bool needs(std::size_t input) const;

 private:
  const Node& node_;
  const Tensors& gradients_;
};

/// Gives one gradient per input, unset where none is needed. Built from differentiable operations, so that it
/// can itself be recorded. A gradient larger than its input through broadcasting is summed by the caller.
using BackwardFunction = std::function<Tensors(const Backward&)>;

/// Before a node runs: sees and may replace the gradients of its outputs.
using NodePreHook = std::function<std::optional<Tensors>(const Tensors& grad_outputs)>;
/// After a node ran: sees both sides and may replace the gradients of its inputs.
using NodeHook =
    std::function<std::optional<Tensors>(const Tensors& grad_inputs, const Tensors& grad_outputs)>;

class Node : public std::enable_shared_from_this<Node> {
 public:
  Node(const char* name, std::vector<Edge> next_edges, std::vector<OutputInfo> outputs);
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const char* name() const { return name_; }
  /// Later operations have larger numbers; accumulators have the largest.
  std::uint64_t sequence() const { return sequence_; }
  /// One per input.
  const std::vector<Edge>& next_edges() const { return next_edges_; }
  const std::vector<OutputInfo>& outputs() const { return outputs_; }

  /// Gradients of the inputs from those of the outputs.
  virtual Tensors apply(Tensors gradients) = 0;
  /// Drops saved tensors; a later apply that needs them throws.
  virtual void release_saved() {}

  HookHandle register_prehook(NodePreHook hook, std::string name = {}) {
    return prehooks.add(std::move(hook), std::move(name));
  }
  HookHandle register_hook(NodeHook hook, std::string name = {}) {
    return hooks.add(std::move(hook), std::move(name));
  }

  /// The hooks of one output's gradient, made on first use.
  struct OutputHooks {
    HookList<TensorHook> hooks;
    std::weak_ptr<TensorImpl> retain;  // receives the gradient, if it is still alive
  };
  OutputHooks& output_hooks(std::size_t output);
  /// Null if nothing was ever registered for this output.
  OutputHooks* find_output_hooks(std::size_t output) const {
    return output < output_hooks_.size() ? output_hooks_[output].get() : nullptr;
  }
  /// The tensor hooks to run on the gradient of one output; null if there are none. A leaf's live with the
  /// leaf.
  virtual const HookList<TensorHook>* tensor_hooks(std::size_t output) const {
    OutputHooks* found = find_output_hooks(output);
    return found ? &found->hooks : nullptr;
  }

  HookList<NodePreHook> prehooks;
  HookList<NodeHook> hooks;

 protected:
  std::uint64_t sequence_;

 private:
  friend class Backward;

  virtual const std::vector<SavedTensor>* saved_tensors() const { return nullptr; }

  const char* name_;
  std::vector<Edge> next_edges_;
  std::vector<OutputInfo> outputs_;
  std::vector<std::unique_ptr<OutputHooks>> output_hooks_;
};

/// True if grad mode is on and one of the tensors requires a gradient.
bool should_record(std::initializer_list<Tensor> inputs);

/// Where the gradient of `tensor` goes: its grad_fn, or the accumulator of a leaf; nowhere if it requires
/// none.
Edge gradient_edge(const Tensor& tensor);

/// Records outputs = name(inputs), if should_record(inputs), and returns the outputs. `saved` may hold unset
/// tensors. `name` must outlive the graph (a string literal).
Tensor record(const char* name, Tensor output, std::initializer_list<Tensor> inputs,
              std::initializer_list<Tensor> saved, BackwardFunction backward);
Tensors record(const char* name, Tensors outputs, const Tensors& inputs, const Tensors& saved,
               BackwardFunction backward);

/// Before changing `tensor` in place: throws AutogradError where that would spoil a leaf, TypeError on broken
/// aliasing.
void check_inplace(const char* name, const Tensor& tensor);

/// After the elements of `tensor` were overwritten by name(tensor, others): advances the version and records.
/// `backward` gives the gradients of `tensor` as it was before, then of `others`. Views and bases of the
/// tensor follow.
const Tensor& record_inplace(const char* name, const Tensor& tensor, std::initializer_list<Tensor> others,
                             std::initializer_list<Tensor> saved, BackwardFunction backward);

/// Makes `tensor` output number `output` of `node`, as an in-place operation does. Its views follow.
void set_history(const Tensor& tensor, std::shared_ptr<Node> node, std::size_t output);

/// The same memory under a new handle, for the caller to record: a stage that later uses pass through. An
/// in-place change of the alias is recorded after that stage, and `tensor`, its base and its views follow.
Tensor alias(const Tensor& tensor);

/// Lets the tensor behind an alias continue from the alias's history, as after an in-place change.
void pass_on_history(const Tensor& alias);

/// A slot for what a hook has to remember until another fires in the same backward pass: empty at first,
/// dropped at the end of the pass. Throws AutogradError on a thread that runs none.
std::shared_ptr<void>& pass_local(const void* key);

}  // namespace grapnel
