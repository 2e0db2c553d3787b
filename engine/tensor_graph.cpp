// A tensor's place in the graph: leaf or not, its gradient, its hooks. Histories are kept by node.cpp and
// inplace.cpp.
#include "grapnel/engine/backend.h"
#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

/// Why a tensor of this thread would carry no gradient, for error messages.
std::string why_no_gradient(const Tensor& x) {
  if (!is_floating(x.dtype())) return "its type " + std::string(name(x.dtype())) + " has no gradients";
  if (x.impl()->inference) return "it was made in inference mode";
  if (!grad_enabled()) return "it was made while gradients are switched off (NoGrad)";
  return "nothing it was computed from requires one (frozen parameters, a detached input, or NoGrad when it "
         "was made); "
         "call set_requires_grad() on the input or the parameters";
}

}  // namespace

bool Tensor::requires_grad() const {
  check_set();
  return impl_->autograd.requires_grad || current_grad_fn(*this) != nullptr;
}

const Tensor& Tensor::set_requires_grad(bool requires_grad) const {
  check_set();
  if (requires_grad && !is_floating(dtype()))
    throw TypeError("set_requires_grad: only floating types have gradients, this tensor holds " +
                    std::string(name(dtype())));
  if (!is_leaf()) {
    if (requires_grad) return *this;
    throw AutogradError(
        "set_requires_grad(false): this tensor is the result of a recorded operation; use detach() to cut "
        "its history");
  }
  AutogradMeta& meta = impl_->autograd;
  meta.requires_grad = requires_grad;
  if (requires_grad && !meta.leaf) meta.leaf = std::make_shared<LeafState>();
  return *this;
}

std::shared_ptr<Node> Tensor::grad_fn() const {
  return impl_ ? current_grad_fn(*this) : nullptr;
}

bool Tensor::is_leaf() const {
  return current_grad_fn(*this) == nullptr;
}

Tensor Tensor::detach() const {
  check_set();
  return without_history(*this);
}

const Tensor& Tensor::detach_() const {
  check_set();
  if (impl_->view)
    throw AutogradError(
        "detach_: a view cannot be detached in place, for its base would keep the history; use detach()");
  AutogradMeta& meta = impl_->autograd;
  if (std::shared_ptr<Node> former = std::exchange(meta.grad_fn, nullptr)) {
    former->hooks().outputs[meta.output].detached = true;
    ++meta.changes;
    release_node(std::move(former));
  }
  meta.requires_grad = meta.retains_grad = false;
  return *this;
}

std::size_t Tensor::output_number() const {
  return current_grad_fn(*this) ? impl_->autograd.output : 0;
}

Tensor Tensor::grad() const {
  check_set();
  return impl_->autograd.grad;
}

void Tensor::set_grad(const Tensor& gradient) const {
  check_set();
  if (gradient.defined() && gradient.device() != device())
    throw DeviceError("set_grad: a tensor on " + grapnel::to_string(device()) +
                      " cannot take a gradient on " + grapnel::to_string(gradient.device()));
  if (gradient.defined() && (gradient.shape() != shape() || gradient.dtype() != dtype()))
    throw ShapeError("set_grad: a tensor of type " + std::string(name(dtype())) + " and shape " +
                     grapnel::to_string(shape()) + " cannot take a gradient of type " +
                     std::string(name(gradient.dtype())) + " and shape " +
                     grapnel::to_string(gradient.shape()));
  impl_->autograd.grad = gradient;
}

const Tensor& Tensor::set_data(const Tensor& value) const {
  check_set();
  if (value.shape() != shape())
    throw ShapeError("set_data: a tensor of shape " + grapnel::to_string(shape()) +
                     " cannot take the data of one of shape " + grapnel::to_string(value.shape()));
  if (value.dtype() != dtype())
    throw TypeError("set_data: a tensor of type " + std::string(name(dtype())) +
                    " cannot take the data of one of type " + std::string(name(value.dtype())));
  if (impl_->view || !is_leaf())
    throw AutogradError("set_data: only a leaf can take other data, and this is " +
                        std::string(impl_->view ? "a view" : "the result of an operation") +
                        "; use copy_, or detach it first");
  if (value.device() != device() && grad().defined())
    impl_->autograd.grad = grad().detach().to(value.device());
  impl_->storage = value.storage();
  impl_->offset = value.storage_offset();
  impl_->strides = value.strides();
  return *this;
}

void Tensor::backward(const Tensor& gradient, bool retain_graph, bool create_graph) const {
  grapnel::backward({*this}, {gradient}, {retain_graph, create_graph, {}});
}

HookHandle Tensor::register_hook(TensorHook hook, std::string hook_name) const {
  if (!requires_grad())
    throw AutogradError("register_hook: this tensor of shape " + grapnel::to_string(shape()) +
                        " has no gradient: " + why_no_gradient(*this));
  if (auto node = grad_fn())
    return node->hooks().outputs[output_number()].hooks.add(std::move(hook), std::move(hook_name));
  return impl_->autograd.leaf->hooks.add(std::move(hook), std::move(hook_name));
}

HookHandle Tensor::register_post_accumulate_grad_hook(PostAccumulateHook hook, std::string hook_name) const {
  if (!requires_grad() || !is_leaf())
    throw AutogradError(
        "register_post_accumulate_grad_hook: only a leaf that requires a gradient accumulates one" +
        std::string(requires_grad() ? "; use register_hook here" : ": " + why_no_gradient(*this)));
  return impl_->autograd.leaf->post_accumulate_hooks.add(std::move(hook), std::move(hook_name));
}

void Tensor::retain_grad() const {
  if (!requires_grad())
    throw AutogradError("retain_grad: this tensor of shape " + grapnel::to_string(shape()) +
                        " has no gradient: " + why_no_gradient(*this));
  auto node = grad_fn();
  if (!node || impl_->autograd.retains_grad) return;
  impl_->autograd.retains_grad = true;
  node->hooks().outputs[output_number()].retain = impl_;
}

bool Tensor::retains_grad() const {
  return impl_ && impl_->autograd.retains_grad;
}

}  // namespace grapnel
