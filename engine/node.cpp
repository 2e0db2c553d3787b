// Recording an operation: its node, its saved tensors, its edges. Read next: backward.cpp; for in-place
// changes inplace.cpp.
#include "grapnel/engine/node.h"

#include <atomic>

#include "grapnel/engine/function_node.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

std::uint64_t next_sequence() {
  static std::atomic<std::uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

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

bool should_record(std::span<const Tensor> inputs) {
  return grad_enabled() && std::any_of(inputs.begin(), inputs.end(),
                                       [](const Tensor& t) { return t.defined() && t.requires_grad(); });
}

bool should_record(std::initializer_list<Tensor> inputs) {
  return should_record(std::span(inputs.begin(), inputs.size()));
}

std::vector<Edge> gradient_edges(std::span<const Tensor> inputs) {
  std::vector<Edge> edges;
  edges.reserve(inputs.size());
  for (const Tensor& input : inputs) edges.push_back(gradient_edge(input));
  return edges;
}

Edge gradient_edge(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.requires_grad()) return {};
  if (auto node = tensor.grad_fn()) return {std::move(node), tensor.output_number()};
  return {accumulator_of(tensor), 0};
}

Tensor record(const char* name, Tensor output, std::initializer_list<Tensor> inputs,
              std::initializer_list<Tensor> saved, BackwardFunction backward) {
  if (!should_record(inputs)) return output;
  auto node = make_node(name, {output}, gradient_edges(std::span(inputs.begin(), inputs.size())), saved,
                        std::move(backward));
  set_history(output, std::move(node), 0);
  return output;
}

Tensors record(const char* name, Tensors outputs, const Tensors& inputs, const Tensors& saved,
               BackwardFunction backward) {
  if (!should_record(std::span(inputs))) return outputs;
  auto node = make_node(name, outputs, gradient_edges(inputs), saved, std::move(backward));
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (is_floating(outputs[i].dtype())) set_history(outputs[i], node, i);
  return outputs;
}

}  // namespace grapnel
