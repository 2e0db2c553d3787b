// y = f(x), element by element, each with its derivative.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"

namespace grapnel {

using kernels::Unary;

// dy = y dx
Tensor exp(const Tensor& x) {
  Tensor y = apply_unary("exp", Unary::exp, x);
  return record("exp", y, {x}, {y},
                [](const Backward& ctx) -> Tensors { return {ctx.grad() * ctx.saved(0)}; });
}

// dy = dx / x
Tensor log(const Tensor& x) {
  return record("log", apply_unary("log", Unary::log, x), {x}, {x},
                [](const Backward& ctx) -> Tensors { return {ctx.grad() / ctx.saved(0)}; });
}

// dy = dx / (2 y)
Tensor sqrt(const Tensor& x) {
  Tensor y = apply_unary("sqrt", Unary::sqrt, x);
  return record("sqrt", y, {x}, {y},
                [](const Backward& ctx) -> Tensors { return {ctx.grad() / (ctx.saved(0) * 2.0)}; });
}

// dy = sign(x) dx
Tensor abs(const Tensor& x) {
  return record("abs", apply_unary("abs", Unary::abs, x), {x}, {x},
                [](const Backward& ctx) -> Tensors { return {ctx.grad() * sign(ctx.saved(0))}; });
}

// Piecewise constant: dy = 0
Tensor sign(const Tensor& x) {
  return record("sign", apply_unary("sign", Unary::sign, x), {x}, {},
                [](const Backward& ctx) -> Tensors { return {ctx.grad() * 0.0}; });
}

// dy = -y^2 dx
Tensor reciprocal(const Tensor& x) {
  Tensor y = apply_unary("reciprocal", Unary::reciprocal, x);
  return record("reciprocal", y, {x}, {y}, [](const Backward& ctx) -> Tensors {
    const Tensor y_saved = ctx.saved(0);
    return {-(ctx.grad() * (y_saved * y_saved))};
  });
}

// dy = p x^(p-1) dx
Tensor pow(const Tensor& x, double exponent) {
  return record("pow", apply_unary("pow", Unary::pow, x, exponent), {x}, {x},
                [exponent](const Backward& ctx) -> Tensors {
                  if (exponent == 0) return {ctx.grad() * 0.0};
                  return {ctx.grad() * (pow(ctx.saved(0), exponent - 1) * exponent)};
                });
}

// dy = dx where low <= x <= high, else 0
Tensor clamp(const Tensor& x, double low, double high) {
  return record("clamp", apply_unary("clamp", Unary::clamp, x, low, high), {x}, {x},
                [low, high](const Backward& ctx) -> Tensors {
                  return {ctx.grad() * apply_unary("between", Unary::between, ctx.saved(0), low, high)};
                });
}

}  // namespace grapnel
