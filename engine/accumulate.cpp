// Where gradients end: the node that adds into a leaf's grad.
#include <limits>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

/// The end of the graph: adds the arriving gradient to a leaf's `grad`, in the leaf's memory order.
class AccumulateGrad : public Node {
 public:
  explicit AccumulateGrad(const Tensor& leaf)
      : Node("accumulate_grad", {}, {{leaf.shape(), leaf.dtype()}}),
        leaf_(leaf.impl()),
        value_(without_history(leaf)),
        state_(leaf.impl()->autograd.leaf) {
    sequence_ = std::numeric_limits<std::uint64_t>::max();
  }

  Tensors apply(Tensors gradients) override {
    Tensor target = leaf();
    {
      std::lock_guard lock(state_->mutex);
      accumulate(target.impl()->autograd.grad, std::move(gradients[0]));
    }
    for (const auto& hook : state_->post_accumulate_hooks.snapshot())
      hook->run("post-accumulate hook", name(), [&](const PostAccumulateHook& use) { use(target); });
    return {};
  }

  const HookList<TensorHook>* tensor_hooks(std::size_t) const override { return &state_->hooks; }

 private:
  /// The leaf; a twin for its hooks to see if nobody else holds it any more.
  Tensor leaf() const {
    if (auto impl = leaf_.lock()) return Tensor(std::move(impl));
    Tensor twin = without_history(value_);
    twin.impl()->autograd.leaf = state_;
    twin.impl()->autograd.requires_grad = true;
    return twin;
  }

  void accumulate(Tensor& grad, Tensor gradient) const {
    if (!grad.defined()) {
      const bool ours = gradient.impl().use_count() == 1 && gradient.storage().use_count() == 1;
      const bool in_order = gradient.strides() == value_.strides();
      grad = grad_enabled() ? gradient : (ours && in_order ? gradient : in_order_of_leaf(gradient));
    } else if (grad_enabled()) {
      grad = grad + gradient;
    } else {
      add_(grad, gradient);
    }
  }

  Tensor in_order_of_leaf(const Tensor& gradient) const {
    Tensor copy = gradient.new_empty(gradient.shape(), value_.suggested_format());
    copy.copy_(gradient);
    return copy;
  }

  std::weak_ptr<TensorImpl> leaf_;
  Tensor value_;
  std::shared_ptr<LeafState> state_;
};

}  // namespace

std::shared_ptr<Node> accumulator_of(const Tensor& leaf) {
  LeafState& state = *leaf.impl()->autograd.leaf;
  std::lock_guard lock(state.mutex);
  auto node = state.accumulator.lock();
  if (!node) {
    node = make_pooled<AccumulateGrad>(leaf);
    state.accumulator = node;
  }
  return node;
}

}  // namespace grapnel
