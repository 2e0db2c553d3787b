// What stands behind a Tensor handle. Internal to the engine.
#pragma once

#include <memory>
#include <mutex>

#include "grapnel/engine/node.h"
#include "grapnel/engine/tensor.h"

namespace grapnel {

/// What a leaf that requires a gradient shares with the graphs that end in it. They hold this rather than the
/// leaf: its `grad` may have a graph of its own, which would be a reference cycle.
struct LeafState {
  std::mutex mutex;                 // guards accumulator, and the leaf's grad during a pass
  std::weak_ptr<Node> accumulator;  // while some graph uses it
  HookList<TensorHook> hooks;       // a non-leaf's are kept by its grad_fn
  HookList<PostAccumulateHook> post_accumulate_hooks;
};

/// A tensor's place in the graph.
struct AutogradMeta {
  Tensor grad;
  std::shared_ptr<Node> grad_fn;
  std::size_t output = 0;           // of grad_fn
  std::uint64_t changes = 0;        // how often grad_fn was set
  std::shared_ptr<LeafState> leaf;  // kept when requires_grad is taken back
  bool requires_grad = false;       // of a leaf; a non-leaf has a grad_fn
  bool retains_grad = false;
};

/// A differentiable view remembers whose elements it shows, so that in-place changes reach both histories.
struct ViewInfo : Pooled {
  Tensor base;                     // never itself a view
  std::uint64_t base_changes = 0;  // of the base's history, that grad_fn knows of
  bool made_without_grad = false;
  bool is_stage = false;  // made by alias(): in-place changes go on from its own history, then the base's
  const char* one_of_many = nullptr;  // the operation, if that made several views: no in-place changes
};

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  std::int64_t offset = 0;
  Shape shape;
  Strides strides;
  DType dtype = DType::float32;
  bool inference = false;
  AutogradMeta autograd;
  std::unique_ptr<ViewInfo> view;

  TensorImpl() = default;
  ~TensorImpl();
};

/// The node that adds gradients into a leaf; one per leaf while any graph uses it.
std::shared_ptr<Node> accumulator_of(const Tensor& leaf);

/// The operation that made x, null for a leaf; brought up to date if x is a view whose base was changed.
const std::shared_ptr<Node>& current_grad_fn(const Tensor& x);

/// The same elements without a place in the graph.
Tensor without_history(const Tensor& x);

/// Drops a reference to a node without recursion, however long the chain behind it.
void release_node(std::shared_ptr<Node> node) noexcept;

/// How often the history of a tensor was set; a view compares it to notice in-place changes of its base.
std::uint64_t history_changes(const Tensor& tensor);

/// A view of x with its base noted; the caller records it.
Tensor make_view(const Tensor& x, const Shape& shape, const Strides& strides, std::int64_t offset);

/// For each element of a view, in row-major order, its place in the memory that starts `offset` before the
/// view.
Tensor memory_index(const Shape& shape, const Strides& strides, std::int64_t offset, Device device);

}  // namespace grapnel
