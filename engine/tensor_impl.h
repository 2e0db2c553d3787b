// What stands behind a Tensor handle. Internal to the engine.
#pragma once

#include <memory>
#include <mutex>

#include "grapnel/engine/node.h"
#include "grapnel/engine/tensor.h"

namespace grapnel {

/// The part of a tensor that only the graph knows; made when first needed.
struct AutogradMeta {
  bool requires_grad = false;  // of a leaf; a non-leaf has a grad_fn
  Tensor grad;
  std::shared_ptr<Node> grad_fn;
  std::size_t output = 0;
  std::uint64_t changes = 0;        // how often grad_fn was set
  std::weak_ptr<Node> accumulator;  // of a leaf, while some graph uses it
  HookList<TensorHook> hooks;       // of a leaf; a non-leaf's are kept by its grad_fn
  HookList<PostAccumulateHook> post_accumulate_hooks;
  bool retains_grad = false;
  std::mutex mutex;  // guards grad and accumulator
};

/// A differentiable view remembers whose elements it shows, so that in-place changes reach both histories.
struct ViewInfo {
  Tensor base;                     // never itself a view
  std::uint64_t base_changes = 0;  // of the base's history, that grad_fn knows of
  bool made_without_grad = false;
  bool is_stage =
      false;  // made by alias(): in-place changes continue its own history, and the base's from there
};

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  std::int64_t offset = 0;
  Shape shape;
  Strides strides;
  DType dtype = DType::float32;
  bool inference = false;
  std::unique_ptr<AutogradMeta> autograd;
  std::unique_ptr<ViewInfo> view;

  TensorImpl() = default;
  ~TensorImpl();

  AutogradMeta& meta() {
    if (!autograd) autograd = std::make_unique<AutogradMeta>();
    return *autograd;
  }
};

/// The node that adds gradients into a leaf; one per leaf while any graph uses it.
std::shared_ptr<Node> accumulator_of(const Tensor& leaf);

/// Drops a reference to a node without recursion, however long the chain behind it.
void release_node(std::shared_ptr<Node> node) noexcept;

/// How often the history of a tensor was set; a view compares it to notice in-place changes of its base.
std::uint64_t history_changes(const Tensor& tensor);

/// A view of x with its base noted; the caller records it.
Tensor make_view(const Tensor& x, const Shape& shape, const Strides& strides, std::int64_t offset);

/// For each element of a view, in row-major order, its place in the memory that starts `offset` before the
/// view.
Tensor memory_index(const Shape& shape, const Strides& strides, std::int64_t offset);

}  // namespace grapnel
