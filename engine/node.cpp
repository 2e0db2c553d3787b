// Recording: nodes, saved tensors, and the histories of tensors, leaves and views.
#include "grapnel/engine/node.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

std::uint64_t next_sequence() {
  static std::atomic<std::uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

/// A node whose backward is a function over saved tensors: every operation but the leaf's accumulator.
class FunctionNode : public Node {
 public:
  FunctionNode(const char* name, std::vector<Edge> next_edges, std::vector<OutputInfo> outputs,
               BackwardFunction function)
      : Node(name, std::move(next_edges), std::move(outputs)), function_(std::move(function)) {}

  void save(SavedTensor tensor) { saved_.push_back(std::move(tensor)); }

  Tensors apply(Tensors gradients) override { return function_(Backward(*this, gradients)); }

  void release_saved() override {
    released_ = !saved_.empty();
    saved_.clear();
  }

 private:
  const std::vector<SavedTensor>* saved_tensors() const override {
    if (released_)
      throw AutogradError(
          std::string(name()) +
          ": its saved tensors are already freed; to go backward through the same graph twice, pass "
          "retain_graph = true the first time");
    return &saved_;
  }

  BackwardFunction function_;
  std::vector<SavedTensor> saved_;
  bool released_ = false;
};

/// The end of the graph: adds the arriving gradient to a leaf's `grad`, in the leaf's memory order.
class AccumulateGrad : public Node {
 public:
  explicit AccumulateGrad(Tensor leaf)
      : Node("accumulate_grad", {}, {{leaf.shape(), leaf.dtype()}}), leaf_(std::move(leaf)) {
    sequence_ = std::numeric_limits<std::uint64_t>::max();
  }

  Tensors apply(Tensors gradients) override {
    AutogradMeta& meta = leaf_.impl()->meta();
    {
      std::lock_guard lock(meta.mutex);
      accumulate(meta, std::move(gradients[0]));
    }
    for (const auto& hook : meta.post_accumulate_hooks.snapshot())
      if (!hook->removed) hook->function(leaf_);
    return {};
  }

  const HookList<TensorHook>* tensor_hooks(std::size_t) const override { return &leaf_.impl()->meta().hooks; }

 private:
  void accumulate(AutogradMeta& meta, Tensor gradient) {
    if (!gradient.defined()) return;
    if (!meta.grad.defined()) {
      const bool ours = gradient.impl().use_count() == 1 && gradient.storage().use_count() == 1;
      const bool in_order = gradient.strides() == leaf_.strides();
      meta.grad = grad_enabled() ? gradient : (ours && in_order ? gradient : in_order_of_leaf(gradient));
    } else if (grad_enabled()) {
      meta.grad = meta.grad + gradient;
    } else {
      add_(meta.grad, gradient);
    }
  }

  Tensor in_order_of_leaf(const Tensor& gradient) const {
    Tensor copy = Tensor::empty(gradient.shape(), gradient.dtype(), leaf_.suggested_format());
    copy.copy_(gradient);
    return copy;
  }

  Tensor leaf_;
};

/// A view and its base as two index lists into the base's span of memory: all that in-place changes need to
/// know.
struct ViewGeometry {
  Tensor view_index, base_index;
  std::int64_t span = 1;
  Shape view_shape, base_shape;

  ViewGeometry(const TensorImpl& view, const TensorImpl& base)
      : view_index(memory_index(view.shape, view.strides, view.offset - base.offset)),
        base_index(memory_index(base.shape, base.strides, 0)),
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
      "as_strided", std::vector<Edge>{gradient_edge(base)}, std::vector<OutputInfo>{{view.shape, view.dtype}},
      [geometry](const Backward& ctx) -> Tensors {
        return {geometry.from_memory(geometry.to_memory(ctx.grad(), geometry.view_index), geometry.base_index,
                                     geometry.base_shape)};
      });
}

/// The history of a base one of whose views was overwritten by `operation`: the gradient of the overwritten
/// elements goes through the operation, that of the others passes by.
std::shared_ptr<Node> write_to_base(std::shared_ptr<Node> operation, const TensorImpl& view, Edge base_edge) {
  std::vector<Edge> edges = operation->next_edges();
  edges[0] = std::move(base_edge);
  const TensorImpl& base = *view.view->base.impl();
  ViewGeometry geometry(view, base);
  return std::make_shared<FunctionNode>(
      "copy_slices", std::move(edges), std::vector<OutputInfo>{{base.shape, base.dtype}},
      [operation, geometry](const Backward& ctx) -> Tensors {
        const ViewGeometry& at = geometry;
        Tensor memory = at.to_memory(ctx.grad(), at.base_index);
        Tensors gradients = operation->apply({at.from_memory(memory, at.view_index, at.view_shape)});
        Tensor kept = memory * (1 - at.to_memory(Tensor::ones(at.view_shape, memory.dtype()), at.view_index));
        if (gradients[0].defined()) kept = kept + at.to_memory(gradients[0], at.view_index);
        gradients[0] = at.from_memory(kept, at.base_index, at.base_shape);
        return gradients;
      });
}

std::shared_ptr<FunctionNode> make_node(const char* name, const Tensors& outputs, std::vector<Edge> edges,
                                        const Tensors& saved, BackwardFunction backward) {
  std::vector<OutputInfo> infos;
  infos.reserve(outputs.size());
  for (const Tensor& output : outputs) infos.push_back({output.shape(), output.dtype()});
  auto node = std::make_shared<FunctionNode>(name, std::move(edges), std::move(infos), std::move(backward));
  for (const Tensor& tensor : saved) {
    std::optional<std::size_t> output_number;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (tensor.defined() && tensor.is_same(outputs[i])) output_number = i;
    node->save(SavedTensor(name, tensor, output_number));
  }
  return node;
}

template <class Range>
std::vector<Edge> edges_of(const Range& inputs) {
  std::vector<Edge> edges;
  edges.reserve(inputs.size());
  for (const Tensor& input : inputs) edges.push_back(gradient_edge(input));
  return edges;
}

template <class Range>
bool wants_record(const Range& inputs) {
  return grad_enabled() && std::any_of(inputs.begin(), inputs.end(),
                                       [](const Tensor& t) { return t.defined() && t.requires_grad(); });
}

}  // namespace

Tensor memory_index(const Shape& shape, const Strides& strides, std::int64_t offset) {
  Tensor index = Tensor::empty({numel(shape)}, DType::int64);
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
  return index;
}

SavedTensor::SavedTensor(const char* operation, const Tensor& tensor,
                         std::optional<std::size_t> output_number)
    : output_number_(output_number) {
  if (!tensor.defined()) return;
  if (tensor.impl()->inference)
    throw AutogradError(
        std::string(operation) + ": a tensor of shape " + to_string(tensor.shape()) +
        " made in inference mode cannot be saved for backward; clone it outside inference mode");
  tensor_ = output_number ? tensor.detach() : tensor;
  version_ = tensor.version();
}

Tensor SavedTensor::unpack(const std::shared_ptr<Node>& owner) const {
  if (!tensor_.defined()) return tensor_;
  if (tensor_.version() != version_)
    throw AutogradError(std::string(owner->name()) + ": a saved tensor of type " +
                        std::string(grapnel::name(tensor_.dtype())) + " and shape " +
                        to_string(tensor_.shape()) + " was changed in place; it is at version " +
                        std::to_string(tensor_.version()) + ", expected version " + std::to_string(version_) +
                        "; clone it before changing it");
  if (!output_number_) return tensor_;
  Tensor output = tensor_.detach();
  set_history(output, owner, *output_number_);
  return output;
}

Tensor Backward::saved(std::size_t i) const {
  return (*node_.saved_tensors())[i].unpack(const_cast<Node&>(node_).shared_from_this());
}

bool Backward::needs(std::size_t input) const {
  return node_.next_edges_[input].node != nullptr;
}

Node::Node(const char* name, std::vector<Edge> next_edges, std::vector<OutputInfo> outputs)
    : sequence_(next_sequence()),
      name_(name),
      next_edges_(std::move(next_edges)),
      outputs_(std::move(outputs)) {}

Node::~Node() {
  for (Edge& edge : next_edges_) release_node(std::move(edge.node));
}

Node::OutputHooks& Node::output_hooks(std::size_t output) {
  if (output_hooks_.size() <= output) output_hooks_.resize(outputs_.size());
  if (!output_hooks_[output]) output_hooks_[output] = std::make_unique<OutputHooks>();
  return *output_hooks_[output];
}

void release_node(std::shared_ptr<Node> node) noexcept {
  // A node's destructor releases its successors through here: they queue up behind the one being destroyed.
  thread_local std::vector<std::shared_ptr<Node>>* queue = nullptr;
  if (!node || node.use_count() > 1) return;
  if (queue) {
    queue->push_back(std::move(node));
    return;
  }
  std::vector<std::shared_ptr<Node>> pending;
  queue = &pending;
  node.reset();
  while (!pending.empty()) {
    std::shared_ptr<Node> next = std::move(pending.back());
    pending.pop_back();
    next.reset();
  }
  queue = nullptr;
}

TensorImpl::~TensorImpl() {
  if (autograd) release_node(std::move(autograd->grad_fn));
}

std::shared_ptr<Node> accumulator_of(const Tensor& leaf) {
  AutogradMeta& meta = leaf.impl()->meta();
  std::lock_guard lock(meta.mutex);
  auto node = meta.accumulator.lock();
  if (!node) {
    node = std::make_shared<AccumulateGrad>(leaf);
    meta.accumulator = node;
  }
  return node;
}

bool should_record(std::initializer_list<Tensor> inputs) {
  return wants_record(inputs);
}

Edge gradient_edge(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.requires_grad()) return {};
  if (auto node = tensor.grad_fn()) return {std::move(node), tensor.output_number()};
  return {accumulator_of(tensor), 0};
}

Tensor record(const char* name, Tensor output, std::initializer_list<Tensor> inputs,
              std::initializer_list<Tensor> saved, BackwardFunction backward) {
  if (!wants_record(inputs)) return output;
  auto node = make_node(name, {output}, edges_of(inputs), saved, std::move(backward));
  set_history(output, std::move(node), 0);
  return output;
}

Tensors record(const char* name, Tensors outputs, const Tensors& inputs, const Tensors& saved,
               BackwardFunction backward) {
  if (!wants_record(inputs)) return outputs;
  auto node = make_node(name, outputs, edges_of(inputs), saved, std::move(backward));
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (is_floating(outputs[i].dtype())) set_history(outputs[i], node, i);
  return outputs;
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
  if (impl.view && impl.view->made_without_grad && tensor.requires_grad())
    throw AutogradError(
        std::string(name) +
        ": a view made under NoGrad cannot be changed in place while gradients are recorded; make the "
        "view outside NoGrad, or change it under NoGrad");
}

const Tensor& record_inplace(const char* name, const Tensor& tensor, std::initializer_list<Tensor> others,
                             std::initializer_list<Tensor> saved, BackwardFunction backward) {
  Tensors inputs{tensor};
  inputs.insert(inputs.end(), others);
  const bool recording = wants_record(inputs);
  std::vector<Edge> edges = recording ? edges_of(inputs) : std::vector<Edge>{};
  TensorImpl& impl = *tensor.impl();
  const bool has_base = recording && impl.view && impl.storage == impl.view->base.storage();
  const bool through_view = has_base && !impl.view->is_stage;
  Edge base_edge = through_view ? gradient_edge(impl.view->base) : Edge{};
  tensor.storage()->bump_version();
  if (!recording) return tensor;
  auto node = make_node(name, {tensor}, std::move(edges), saved, std::move(backward));
  if (through_view)
    set_history(impl.view->base, write_to_base(std::move(node), impl, std::move(base_edge)), 0);
  else
    set_history(tensor, std::move(node), 0);
  if (has_base && impl.view->is_stage) pass_on_history(tensor);
  return tensor;
}

void set_history(const Tensor& tensor, std::shared_ptr<Node> node, std::size_t output) {
  AutogradMeta& meta = tensor.impl()->meta();
  std::shared_ptr<Node> former = std::exchange(meta.grad_fn, std::move(node));
  const std::size_t former_output = std::exchange(meta.output, output);
  ++meta.changes;
  if (meta.retains_grad) {
    if (Node::OutputHooks* hooks = former ? former->find_output_hooks(former_output) : nullptr)
      hooks->retain.reset();
    meta.grad_fn->output_hooks(output).retain = tensor.impl();
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
    auto copy = std::make_shared<FunctionNode>("alias", std::vector<Edge>{{}, edge},
                                               std::vector<OutputInfo>{{impl.shape, impl.dtype}},
                                               [](const Backward& ctx) -> Tensors {
                                                 return {Tensor(), ctx.grad()};
                                               });
    set_history(base, write_to_base(std::move(copy), impl, gradient_edge(base)), 0);
  }
  impl.view->base_changes = history_changes(base);
}

std::uint64_t history_changes(const Tensor& tensor) {
  const AutogradMeta* meta = tensor.impl()->autograd.get();
  return meta ? meta->changes : 0;
}

// Lives here because it makes nodes: a view whose base changed since takes its history from the base.
std::shared_ptr<Node> Tensor::grad_fn() const {
  if (!impl_ || !(impl_->autograd || impl_->view)) return nullptr;
  if (ViewInfo* view = impl_->view.get(); view && view->base_changes != history_changes(view->base) &&
                                          view->base.requires_grad() && !view->base.is_leaf() &&
                                          storage() == view->base.storage())
    set_history(*this, read_from_base(*impl_), 0);
  return impl_->autograd ? impl_->autograd->grad_fn : nullptr;
}

}  // namespace grapnel
