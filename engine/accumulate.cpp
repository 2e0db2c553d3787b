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

}  // namespace

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

}  // namespace grapnel
