// Recording an operation: its node, its saved tensors, its edges. Read next: pass.cpp; for in-place
// changes inplace.cpp.
#include "grapnel/engine/node.h"

#include <atomic>

#include "grapnel/engine/function_node.h"
#include "grapnel/engine/saved_tensor_hooks.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

std::uint64_t next_sequence() {
  static std::atomic<std::uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

std::shared_ptr<FunctionNode> make_node(const char* name, std::span<const TensorRef> outputs,
                                        PoolVector<Edge> edges, std::span<const TensorRef> saved,
                                        BackwardFunction backward) {
  PoolVector<OutputInfo> infos;
  infos.reserve(outputs.size());
  for (const auto& [output] : outputs) infos.push_back({output->shape(), output->dtype()});
  auto node = make_pooled<FunctionNode>(name, std::move(edges), std::move(infos), std::move(backward));
  node->reserve_saved(saved.size());
  for (const auto& [tensor] : saved) {
    std::optional<std::size_t> output_number;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (tensor->defined() && tensor->is_same(*outputs[i].tensor)) output_number = i;
    node->save(SavedTensor(name, *tensor, output_number));
  }
  return node;
}

SavedTensor::SavedTensor(const char* operation, const Tensor& tensor,
                         std::optional<std::size_t> output_number)
    : output_number_(output_number) {
  if (!tensor.defined()) return;
  if (tensor.impl()->inference)
    throw AutogradError(
        std::string(operation) + ": a tensor of shape " + to_string(tensor.shape()) +
        " made in inference mode cannot be saved for backward; clone it outside inference mode");
  if (!output_number) history_ = gradient_edge(tensor);
  value_ = without_history(tensor);
  version_ = tensor.version();
  if (auto packed = PackedTensor::pack(operation, value_)) {
    packed_ = std::move(packed);
    value_ = Tensor();
  }
}

Tensor SavedTensor::unpack(Node& owner) const {
  if (!value_.defined() && !packed_) return value_;
  if (value_.defined() && value_.version() != version_)
    throw AutogradError(std::string(owner.name()) + ": a saved tensor of type " +
                        std::string(grapnel::name(value_.dtype())) + " and shape " +
                        to_string(value_.shape()) + " was changed in place; it is at version " +
                        std::to_string(value_.version()) + ", expected version " + std::to_string(version_) +
                        "; clone it before changing it");
  if (const Node::Hooks* hooks = history_.node ? history_.node->find_hooks() : nullptr;
      hooks && hooks->outputs[history_.output].detached)
    throw AutogradError(std::string(owner.name()) + ": a saved tensor of shape " + to_string(*shape()) +
                        " was detached in place (detach_); use detach() instead");
  const Tensor value = packed_ ? packed_->unpack(owner.name()) : value_;
  if (!grad_enabled()) return value;
  Tensor with_history = without_history(value);
  if (output_number_)
    set_history(with_history, owner.shared_from_this(), *output_number_);
  else if (history_.node)
    set_history(with_history, history_.node, history_.output);
  return with_history;
}

std::optional<Shape> SavedTensor::shape() const {
  if (packed_) return packed_->shape();
  return value_.defined() ? std::optional(value_.shape()) : std::nullopt;
}

Tensor Backward::saved(std::size_t i) const {
  const PoolVector<SavedTensor>* saved = node_.saved_tensors();
  if (!saved)
    throw AutogradError(
        std::string(node_.name()) +
        ": its saved tensors are already freed; to go backward through the same graph twice, pass "
        "retain_graph = true the first time");
  return (*saved)[i].unpack(const_cast<Node&>(node_));
}

bool Backward::needs(std::size_t input) const {
  return node_.next_edges_[input].node != nullptr;
}

Node::Node(const char* name, PoolVector<Edge> next_edges, PoolVector<OutputInfo> outputs)
    : sequence_(next_sequence()),
      name_(name),
      next_edges_(std::move(next_edges)),
      outputs_(std::move(outputs)) {}

Node::~Node() {
  delete find_hooks();
  for (Edge& edge : next_edges_) release_node(std::move(edge.node));
}

Node::Hooks& Node::hooks() {
  Hooks* found = find_hooks();
  if (found) return *found;
  auto made = std::make_unique<Hooks>(outputs_.size());
  // Another thread may have been faster.
  return hooks_.compare_exchange_strong(found, made.get()) ? *made.release() : *found;
}

void release_node(std::shared_ptr<Node> node) noexcept {
  // A node's destructor releases its successors through here: they queue up behind the one being destroyed.
  thread_local PoolVector<std::shared_ptr<Node>>* queue = nullptr;
  if (!node || node.use_count() > 1) return;
  if (queue) {
    queue->push_back(std::move(node));
    return;
  }
  PoolVector<std::shared_ptr<Node>> pending;
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
  release_node(std::move(autograd.grad_fn));
}

namespace {

bool any_requires_grad(std::span<const TensorRef> inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const TensorRef& ref) {
    return ref.tensor->defined() && ref.tensor->requires_grad();
  });
}

PoolVector<TensorRef> refs(const Tensors& tensors) {
  return {tensors.begin(), tensors.end()};
}

}  // namespace

bool should_record(TensorRefs inputs) {
  return grad_enabled() && any_requires_grad(std::span(inputs.begin(), inputs.size()));
}

PoolVector<Edge> gradient_edges(std::span<const TensorRef> inputs) {
  PoolVector<Edge> edges;
  edges.reserve(inputs.size());
  for (const TensorRef& input : inputs) edges.push_back(gradient_edge(*input.tensor));
  return edges;
}

PoolVector<Edge> gradient_edges(const Tensors& inputs) {
  return gradient_edges(refs(inputs));
}

Edge gradient_edge(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  if (const std::shared_ptr<Node>& node = current_grad_fn(tensor))
    return {node, tensor.impl()->autograd.output};
  if (!tensor.impl()->autograd.requires_grad) return {};
  return {accumulator_of(tensor), 0};
}

void add_to_graph(const char* name, const Tensor& output, TensorRefs inputs, TensorRefs saved,
                  BackwardFunction backward) {
  const TensorRef outputs[] = {output};
  auto node = make_node(name, outputs, gradient_edges(std::span(inputs.begin(), inputs.size())),
                        std::span(saved.begin(), saved.size()), std::move(backward));
  set_history(output, std::move(node), 0);
}

Tensors record(const char* name, Tensors outputs, const Tensors& inputs, const Tensors& saved,
               BackwardFunction backward) {
  if (!grad_enabled() || !any_requires_grad(refs(inputs))) return outputs;
  auto node = make_node(name, refs(outputs), gradient_edges(inputs), refs(saved), std::move(backward));
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (is_floating(outputs[i].dtype())) set_history(outputs[i], node, i);
  return outputs;
}

}  // namespace grapnel
