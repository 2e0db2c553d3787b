// In-place changes: what they are refused for, and how the histories of the tensor, its base and its views
// follow.
//
// A view that was overwritten gives its base a new history (the gradient of the overwritten elements goes
// through the operation); any other view of that base notices that its history was replaced, and reads its
// own from the base.
#include <algorithm>

#include "grapnel/engine/function_node.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

/// A view and its base as two index lists into the base's span of memory: all that in-place changes need to
/// know.
struct ViewGeometry {
  Tensor view_index, base_index;
  std::int64_t span = 1;
  Shape view_shape, base_shape;

  ViewGeometry(const TensorImpl& view, const TensorImpl& base)
      : view_index(memory_index(view.shape, view.strides, view.offset - base.offset, view.storage->device())),
        base_index(memory_index(base.shape, base.strides, 0, view.storage->device())),
        view_shape(view.shape),
        base_shape(base.shape) {
    for (std::size_t d = 0; d < base.shape.size(); ++d)
      span += std::max<std::int64_t>(base.shape[d] - 1, 0) * base.strides[d];
  }

  Tensor to_memory(const Tensor& x, const Tensor& index) const {
    return index_add(span, 0, index, reshape(x, {index.numel()}));
  }
  Tensor from_memory(const Tensor& memory, const Tensor& index, const Shape& shape) const {
    return reshape(index_select(memory, 0, index), shape);
  }
};

/// The history of a view whose base was changed in place: it reads its elements from the base as that is now.
std::shared_ptr<Node> read_from_base(const TensorImpl& view) {
  const Tensor& base = view.view->base;
  ViewGeometry geometry(view, *base.impl());
  return std::make_shared<FunctionNode>(
      "as_strided", PoolVector<Edge>{gradient_edge(base)}, PoolVector<OutputInfo>{{view.shape, view.dtype}},
      [geometry](const Backward& ctx) -> Tensors {
        return {geometry.from_memory(geometry.to_memory(ctx.grad(), geometry.view_index), geometry.base_index,
                                     geometry.base_shape)};
      });
}

/// The history of a base one of whose views was overwritten by `operation`: the gradient of the overwritten
/// elements goes through the operation, that of the others passes by.
std::shared_ptr<Node> write_to_base(std::shared_ptr<Node> operation, const TensorImpl& view, Edge base_edge) {
  PoolVector<Edge> edges = operation->next_edges();
  edges[0] = std::move(base_edge);
  const TensorImpl& base = *view.view->base.impl();
  ViewGeometry geometry(view, base);
  return std::make_shared<FunctionNode>(
      "copy_slices", std::move(edges), PoolVector<OutputInfo>{{base.shape, base.dtype}},
      [operation, geometry](const Backward& ctx) -> Tensors {
        const ViewGeometry& at = geometry;
        Tensor memory = at.to_memory(ctx.grad(), at.base_index);
        Tensors gradients = operation->apply({at.from_memory(memory, at.view_index, at.view_shape)});
        Tensor kept = memory * (1 - at.to_memory(memory.new_ones(at.view_shape), at.view_index));
        if (gradients[0].defined()) kept = kept + at.to_memory(gradients[0], at.view_index);
        gradients[0] = at.from_memory(kept, at.base_index, at.base_shape);
        return gradients;
      });
}

}  // namespace

Tensor memory_index(const Shape& shape, const Strides& strides, std::int64_t offset, Device device) {
  Tensor index = Tensor::empty({numel(shape)}, DType::int64, MemoryFormat::contiguous, Device::cpu());
  std::int64_t* out = index.data<std::int64_t>();
  Dims at(shape.size(), 0);
  for (std::int64_t i = 0, count = index.numel(); i < count; ++i) {
    std::int64_t place = offset;
    for (std::size_t d = 0; d < shape.size(); ++d) place += at[d] * strides[d];
    out[i] = place;
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++at[d] < shape[d]) break;
      at[d] = 0;
    }
  }
  return index.to(device);
}

void check_inplace(const char* name, const Tensor& tensor) {
  const TensorImpl& impl = *tensor.impl();
  for (std::size_t d = 0; d < impl.shape.size(); ++d)
    if (impl.shape[d] > 1 && impl.strides[d] == 0)
      throw AutogradError(
          std::string(name) + ": several elements of this tensor of shape " + to_string(impl.shape) +
          " share one place in memory (it was expanded); clone it before changing it in place");
  if (!grad_enabled()) return;
  const Tensor& owner = impl.view ? impl.view->base : tensor;
  if (owner.requires_grad() && owner.is_leaf())
    throw AutogradError(
        std::string(name) + ": " + (impl.view ? "a view of a leaf" : "a leaf") + " of shape " +
        to_string(owner.shape()) +
        " that requires a gradient cannot be changed in place; do it under NoGrad, or on a clone");
  if (impl.view && impl.view->one_of_many && tensor.requires_grad())
    throw AutogradError(
        std::string(name) + ": one of several views made by " + impl.view->one_of_many +
        " cannot be changed in place; clone it, or take views one by one with narrow or select");
  if (impl.view && impl.view->made_without_grad && owner.requires_grad())
    throw AutogradError(
        std::string(name) +
        ": a view made under NoGrad cannot be changed in place while gradients are recorded; make the "
        "view outside NoGrad, or change it under NoGrad");
}

const Tensor& record_inplace(const char* name, const Tensor& tensor, TensorRefs others, TensorRefs saved,
                             BackwardFunction backward) {
  const bool recording = should_record({tensor}) || should_record(others);
  PoolVector<Edge> edges;
  if (recording) {
    edges = gradient_edges(std::span(others.begin(), others.size()));
    edges.insert(edges.begin(), gradient_edge(tensor));
  }
  TensorImpl& impl = *tensor.impl();
  const bool has_base = recording && impl.view && impl.storage == impl.view->base.storage();
  const bool through_view = has_base && !impl.view->is_stage;
  Edge base_edge = through_view ? gradient_edge(impl.view->base) : Edge{};
  tensor.storage()->bump_version();
  if (!recording) return tensor;
  const TensorRef outputs[] = {tensor};
  auto node =
      make_node(name, outputs, std::move(edges), std::span(saved.begin(), saved.size()), std::move(backward));
  if (through_view)
    set_history(impl.view->base, write_to_base(std::move(node), impl, std::move(base_edge)), 0);
  else
    set_history(tensor, std::move(node), 0);
  if (has_base && impl.view->is_stage) pass_on_history(tensor);
  return tensor;
}

void set_history(const Tensor& tensor, std::shared_ptr<Node> node, std::size_t output) {
  AutogradMeta& meta = tensor.impl()->autograd;
  std::shared_ptr<Node> former = std::exchange(meta.grad_fn, std::move(node));
  const std::size_t former_output = std::exchange(meta.output, output);
  ++meta.changes;
  if (meta.retains_grad) {
    if (Node::Hooks* hooks = former ? former->find_hooks() : nullptr)
      hooks->outputs[former_output].retain.reset();
    meta.grad_fn->hooks().outputs[output].retain = tensor.impl();
  }
  if (ViewInfo* view = tensor.impl()->view.get()) view->base_changes = history_changes(view->base);
  release_node(std::move(former));
}

Tensor alias(const Tensor& tensor) {
  Tensor result = make_view(tensor, tensor.shape(), tensor.strides(), tensor.storage_offset());
  if (ViewInfo* view = result.impl()->view.get()) view->is_stage = true;
  return result;
}

void pass_on_history(const Tensor& alias) {
  TensorImpl& impl = *alias.impl();
  const Tensor& base = impl.view->base;
  const Edge edge = gradient_edge(alias);
  if (impl.offset == base.storage_offset() && impl.shape == base.shape() && impl.strides == base.strides()) {
    set_history(base, edge.node, edge.output);
  } else {
    // base = base with the alias's elements copied in; they are there already, so only the gradient has a way
    // to go.
    auto copy = std::make_shared<FunctionNode>("alias", PoolVector<Edge>{{}, edge},
                                               PoolVector<OutputInfo>{{impl.shape, impl.dtype}},
                                               [](const Backward& ctx) -> Tensors {
                                                 return {Tensor(), ctx.grad()};
                                               });
    set_history(base, write_to_base(std::move(copy), impl, gradient_edge(base)), 0);
  }
  impl.view->base_changes = history_changes(base);
}

std::uint64_t history_changes(const Tensor& tensor) {
  return tensor.impl()->autograd.changes;
}

// Lives here because it makes nodes.
const std::shared_ptr<Node>& current_grad_fn(const Tensor& x) {
  TensorImpl& impl = *x.impl();
  if (ViewInfo* view = impl.view.get(); view && view->base_changes != history_changes(view->base) &&
                                        view->base.requires_grad() && !view->base.is_leaf() &&
                                        impl.storage == view->base.storage())
    set_history(x, read_from_base(impl), 0);
  return impl.autograd.grad_fn;
}

}  // namespace grapnel
