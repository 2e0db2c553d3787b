// Activation functions and dropout.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/recipe.h"

namespace grapnel {

using kernels::Binary;
using kernels::Unary;

namespace {

// dx = dy where y > 0, else 0: linear in dy, and constant in y almost everywhere.
Tensor relu_grad(const Tensor& dy, const Tensor& y) {
  const auto fused = joined(dy, {Step::Kind::mask, y});
  return record("relu_grad", fused ? *fused : apply_binary("relu_grad", Binary::relu_grad, dy, y), {dy},
                {y.detach()},
                [](const Backward& ctx) -> Tensors { return {relu_grad(ctx.grad(), ctx.saved(0))}; });
}

Tensors relu_backward(const Backward& ctx) {
  return {relu_grad(ctx.grad(), ctx.saved(0))};
}

}  // namespace

Tensor relu(const Tensor& x) {
  const auto fused = joined(x, {Step::Kind::relu, {}});
  Tensor y = fused ? *fused : apply_unary("relu", Unary::relu, x);
  return record("relu", y, {x}, {y}, relu_backward);
}

const Tensor& relu_(const Tensor& x) {
  check_inplace("relu_", x);
  apply_unary_inplace("relu_", Unary::relu, x);
  return record_inplace("relu_", x, {}, {x}, relu_backward);
}

// dy = dx where x > 0, else slope dx
Tensor leaky_relu(const Tensor& x, double slope) {
  return record("leaky_relu", apply_unary("leaky_relu", Unary::leaky_relu, x, slope), {x}, {x},
                [slope](const Backward& ctx) -> Tensors {
                  const Tensor positive = apply_unary("positive", Unary::positive, ctx.saved(0));
                  return {ctx.grad() * affine(positive, 1 - slope, slope)};
                });
}

// dy = y (1 - y) dx
Tensor sigmoid(const Tensor& x) {
  Tensor y = apply_unary("sigmoid", Unary::sigmoid, x);
  return record("sigmoid", y, {x}, {y}, [](const Backward& ctx) -> Tensors {
    const Tensor y_saved = ctx.saved(0);
    return {ctx.grad() * (y_saved * (1.0 - y_saved))};
  });
}

// dy = (1 - y^2) dx
Tensor tanh(const Tensor& x) {
  Tensor y = apply_unary("tanh", Unary::tanh, x);
  return record("tanh", y, {x}, {y}, [](const Backward& ctx) -> Tensors {
    const Tensor y_saved = ctx.saved(0);
    return {ctx.grad() * (1.0 - y_saved * y_saved)};
  });
}

// y = x m with m = 0 (probability p) or 1/(1-p)
Tensor dropout(const Tensor& x, double p, bool training, Generator& generator) {
  if (!(p >= 0 && p <= 1))
    throw Error("dropout: the probability is " + std::to_string(p) + ", expected 0 to 1");
  if (!training || p == 0) return x;
  // The same numbers on every device.
  Tensor mask = Tensor::empty(x.shape(), x.dtype(), MemoryFormat::contiguous, Device::cpu());
  const double kept = p == 1 ? 0 : 1 / (1 - p);
  dispatch("dropout", mask, [&]<class T>(const kernels::FloatKernels<T>&) {
    T* out = mask.data<T>();
    for (std::int64_t i = 0, count = mask.numel(); i < count; ++i)
      out[i] = static_cast<T>(generator.uniform() < p ? 0 : kept);
  });
  return x * mask.to(x.device());
}

}  // namespace grapnel
