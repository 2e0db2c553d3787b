// One recorded operation: where its gradient goes next, what it saved, and its hooks.
//
// An operation ends with `return record("mul", out, {a, b}, {a, b}, [](const Backward& ctx) -> Tensors
// {...});`. Anybody may record own operations the same way. Read next: pass.cpp, the traversal.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "grapnel/engine/hooks.h"
#include "grapnel/engine/pool.h"
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

/// A tensor as an argument, without a reference count.
struct TensorRef {
  TensorRef(const Tensor& target) : tensor(&target) {}
  const Tensor* tensor;
};
using TensorRefs = std::initializer_list<TensorRef>;

/// x, or an unset tensor: what an operation saves only for some of its gradients.
inline const Tensor& keep_if(bool needed, const Tensor& x) {
  static const Tensor unset;
  return needed ? x : unset;
}

class PackedTensor;

/// A tensor kept for the backward pass, with the version it had. Only its elements and where its history
/// begins: holding the tensor itself would keep its `grad` alive, which may have a graph that leads here.
class SavedTensor {
 public:
  SavedTensor() = default;
  /// `output_number` if it is an output of the operation itself: its history is then the node that owns this.
  /// Goes through the innermost SavedTensorHooks, if any. Throws AutogradError for a tensor made in inference
  /// mode.
  SavedTensor(const char* operation, const Tensor& tensor, std::optional<std::size_t> output_number);

  /// Throws AutogradError if the tensor was changed or detached in place since.
  Tensor unpack(Node& owner) const;
  /// Its shape; nothing if it is unset.
  std::optional<Shape> shape() const;

 private:
  Tensor value_;
  Edge history_;
  std::optional<std::size_t> output_number_;
  std::uint64_t version_ = 0;
  std::shared_ptr<const PackedTensor> packed_;  // stands for value_ if hooks were used
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
/// (A std::function would ask the system for memory with every operation.)
class BackwardFunction {
 public:
  template <class Closure>
  requires(!std::same_as<Closure, BackwardFunction> &&
           std::is_invocable_r_v<Tensors, const Closure&, const Backward&>) BackwardFunction(Closure closure)
      : closure_(make_pooled<Closure>(std::move(closure))),
        call_([](const void* kept, const Backward& ctx) -> Tensors {
          return (*static_cast<const Closure*>(kept))(ctx);
        }) {}

  Tensors operator()(const Backward& ctx) const { return call_(closure_.get(), ctx); }

 private:
  std::shared_ptr<const void> closure_;
  Tensors (*call_)(const void* closure, const Backward& ctx);
};

/// Before a node runs: sees and may replace the gradients of its outputs.
using NodePreHook = std::function<std::optional<Tensors>(const Tensors& grad_outputs)>;
/// After a node ran: sees both sides and may replace the gradients of its inputs.
using NodeHook =
    std::function<std::optional<Tensors>(const Tensors& grad_inputs, const Tensors& grad_outputs)>;

class Node : public std::enable_shared_from_this<Node> {
 public:
  Node(const char* name, PoolVector<Edge> next_edges, PoolVector<OutputInfo> outputs);
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const char* name() const { return name_; }
  /// Later operations have larger numbers; accumulators have the largest.
  std::uint64_t sequence() const { return sequence_; }
  /// One per input.
  const PoolVector<Edge>& next_edges() const { return next_edges_; }
  const PoolVector<OutputInfo>& outputs() const { return outputs_; }

  /// Gradients of the inputs from those of the outputs, of which at least one is set.
  virtual Tensors apply(Tensors gradients) = 0;
  /// Drops saved tensors; a later apply that needs them throws.
  virtual void release_saved() {}
  /// Of the saved tensors that are set; none once they are freed.
  std::vector<Shape> saved_shapes() const;

  HookHandle register_prehook(NodePreHook hook, std::string name = {}) {
    return hooks().before.add(std::move(hook), std::move(name));
  }
  HookHandle register_hook(NodeHook hook, std::string name = {}) {
    return hooks().after.add(std::move(hook), std::move(name));
  }

  /// What belongs to one output.
  struct OutputHooks {
    HookList<TensorHook> hooks;
    std::weak_ptr<TensorImpl> retain;  // receives the gradient, if it is still alive
    bool detached = false;             // by Tensor::detach_
  };
  struct Hooks {
    HookList<NodePreHook> before;
    HookList<NodeHook> after;
    std::vector<OutputHooks> outputs;
    explicit Hooks(std::size_t output_count) : outputs(output_count) {}
  };
  /// Made on first use.
  Hooks& hooks();
  /// Null if nothing was ever registered.
  Hooks* find_hooks() const { return hooks_.load(std::memory_order_acquire); }
  /// The tensor hooks to run on the gradient of one output; null if there are none. A leaf's live with the
  /// leaf.
  virtual const HookList<TensorHook>* tensor_hooks(std::size_t output) const {
    Hooks* found = find_hooks();
    return found ? &found->outputs[output].hooks : nullptr;
  }

 protected:
  std::uint64_t sequence_;

 private:
  friend class Backward;

  /// Null once they are freed.
  virtual const PoolVector<SavedTensor>* saved_tensors() const { return nullptr; }

  const char* name_;
  PoolVector<Edge> next_edges_;
  PoolVector<OutputInfo> outputs_;
  std::atomic<Hooks*> hooks_{nullptr};
};

/// True if grad mode is on and one of the tensors requires a gradient.
bool should_record(TensorRefs inputs);

/// Where the gradient of `tensor` goes: its grad_fn, or the accumulator of a leaf; nowhere if it requires
/// none.
Edge gradient_edge(const Tensor& tensor);

/// Records output = name(inputs), whoever asks for it.
void add_to_graph(const char* name, const Tensor& output, TensorRefs inputs, TensorRefs saved,
                  BackwardFunction backward);

/// Records outputs = name(inputs), if should_record(inputs), and returns the outputs. `saved` may hold unset
/// tensors. `name` must outlive the graph (a string literal).
template <class Function>
Tensor record(const char* name, Tensor output, TensorRefs inputs, TensorRefs saved, Function backward) {
  // Only what is recorded needs the function in memory of its own.
  if (should_record(inputs)) add_to_graph(name, output, inputs, saved, std::move(backward));
  return output;
}
Tensors record(const char* name, Tensors outputs, const Tensors& inputs, const Tensors& saved,
               BackwardFunction backward);

/// Before changing `tensor` in place: throws AutogradError where that would spoil a leaf, TypeError on broken
/// aliasing.
void check_inplace(const char* name, const Tensor& tensor);

/// After the elements of `tensor` were overwritten by name(tensor, others): advances the version and records.
/// `backward` gives the gradients of `tensor` as it was before, then of `others`. Views and bases of the
/// tensor follow.
const Tensor& record_inplace(const char* name, const Tensor& tensor, TensorRefs others, TensorRefs saved,
                             BackwardFunction backward);

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
/// Whether the gradients of this node's outputs are part of the backward pass running on this thread, now or
/// later. Throws like pass_local.
bool pass_visits(const Node& node);

}  // namespace grapnel
