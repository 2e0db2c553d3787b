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
  return (impl_->autograd && impl_->autograd->requires_grad) || grad_fn() != nullptr;
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
  impl_->meta().requires_grad = requires_grad;
  return *this;
}

bool Tensor::is_leaf() const {
  return grad_fn() == nullptr;
}

Tensor Tensor::detach() const {
  check_set();
  Tensor out = view_of(storage(), storage_offset(), shape(), strides(), dtype());
  out.impl_->inference = impl_->inference;
  return out;
}

std::size_t Tensor::output_number() const {
  return grad_fn() ? impl_->autograd->output : 0;
}

Tensor Tensor::grad() const {
  check_set();
  return impl_->autograd ? impl_->autograd->grad : Tensor();
}

void Tensor::set_grad(const Tensor& gradient) const {
  check_set();
  if (gradient.defined() && (gradient.shape() != shape() || gradient.dtype() != dtype()))
    throw ShapeError("set_grad: a tensor of type " + std::string(name(dtype())) + " and shape " +
                     grapnel::to_string(shape()) + " cannot take a gradient of type " +
                     std::string(name(gradient.dtype())) + " and shape " +
                     grapnel::to_string(gradient.shape()));
  impl_->meta().grad = gradient;
}

void Tensor::backward(const Tensor& gradient, bool retain_graph, bool create_graph) const {
  grapnel::backward({*this}, {gradient}, {retain_graph, create_graph, {}});
}

HookHandle Tensor::register_hook(TensorHook hook, std::string hook_name) const {
  if (!requires_grad())
    throw AutogradError("register_hook: this tensor of shape " + grapnel::to_string(shape()) +
                        " has no gradient: " + why_no_gradient(*this));
  if (auto node = grad_fn())
    return node->output_hooks(output_number()).hooks.add(std::move(hook), std::move(hook_name));
  return impl_->meta().hooks.add(std::move(hook), std::move(hook_name));
}

HookHandle Tensor::register_post_accumulate_grad_hook(PostAccumulateHook hook, std::string hook_name) const {
  if (!requires_grad() || !is_leaf())
    throw AutogradError(
        "register_post_accumulate_grad_hook: only a leaf that requires a gradient accumulates one" +
        std::string(requires_grad() ? "; use register_hook here" : ": " + why_no_gradient(*this)));
  return impl_->meta().post_accumulate_hooks.add(std::move(hook), std::move(hook_name));
}

void Tensor::retain_grad() const {
  if (!requires_grad())
    throw AutogradError("retain_grad: this tensor of shape " + grapnel::to_string(shape()) +
                        " has no gradient: " + why_no_gradient(*this));
  auto node = grad_fn();
  if (!node || impl_->meta().retains_grad) return;
  impl_->meta().retains_grad = true;
  node->output_hooks(output_number()).retain = impl_;
}

bool Tensor::retains_grad() const {
  return impl_ && impl_->autograd && impl_->autograd->retains_grad;
}

}  // namespace grapnel
