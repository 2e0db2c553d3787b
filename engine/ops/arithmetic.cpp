// z = x (op) y, broadcast: each derivative stands beside its operation. Gradients of broadcast operands come
// out in the broadcast shape; the traversal sums them (pass.cpp).
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/recipe.h"

namespace grapnel {

using kernels::Binary;
using kernels::Unary;

// dz = dx + dy
Tensor add(const Tensor& a, const Tensor& b) {
  auto sum = joined(a, {Step::Kind::residual, b});
  if (!sum) sum = joined(b, {Step::Kind::residual, a});
  return record("add", sum ? *sum : apply_binary("add", Binary::add, a, b), {a, b}, {},
                [](const Backward& ctx) -> Tensors {
                  return {ctx.grad(), ctx.grad()};
                });
}

const Tensor& add_(const Tensor& x, const Tensor& y) {
  check_inplace("add_", x);
  apply_binary_inplace("add_", Binary::add, x, y);
  return record_inplace("add_", x, {y}, {}, [](const Backward& ctx) -> Tensors {
    return {ctx.grad(), ctx.grad()};
  });
}

// dz = dx - dy
Tensor sub(const Tensor& a, const Tensor& b) {
  return record("sub", apply_binary("sub", Binary::sub, a, b), {a, b}, {},
                [](const Backward& ctx) -> Tensors {
                  return {ctx.grad(), ctx.needs(1) ? -ctx.grad() : Tensor()};
                });
}

// dz = y dx + x dy; a factor is kept only for the other one's gradient.
namespace {
Tensors mul_backward(const Backward& ctx) {
  return {ctx.needs(0) ? ctx.grad() * ctx.saved(1) : Tensor(),
          ctx.needs(1) ? ctx.grad() * ctx.saved(0) : Tensor()};
}
}  // namespace

Tensor mul(const Tensor& a, const Tensor& b) {
  return record("mul", apply_binary("mul", Binary::mul, a, b), {a, b},
                {keep_if(b.requires_grad(), a), keep_if(a.requires_grad(), b)}, mul_backward);
}

const Tensor& mul_(const Tensor& x, const Tensor& y) {
  check_inplace("mul_", x);
  const bool recording = should_record({x, y});
  const Tensor before = recording && y.requires_grad() ? x.clone() : Tensor();
  apply_binary_inplace("mul_", Binary::mul, x, y);
  return record_inplace("mul_", x, {y}, {before, keep_if(recording && x.requires_grad(), y)}, mul_backward);
}

// z = x/y: dz = dx/y - z dy/y
Tensor div(const Tensor& a, const Tensor& b) {
  return record("div", apply_binary("div", Binary::div, a, b), {a, b}, {keep_if(b.requires_grad(), a), b},
                [](const Backward& ctx) -> Tensors {
                  const Tensor b_saved = ctx.saved(1), scaled = ctx.grad() / b_saved;
                  return {scaled, ctx.needs(1) ? -(scaled * (ctx.saved(0) / b_saved)) : Tensor()};
                });
}

// z = x^y: dz = y x^(y-1) dx + z log(x) dy, where x = 0 gives no gradient to y
Tensor pow(const Tensor& a, const Tensor& b) {
  return record("pow", apply_binary("pow", Binary::pow, a, b), {a, b}, {a, b},
                [](const Backward& ctx) -> Tensors {
                  const Tensor x = ctx.saved(0), y = ctx.saved(1);
                  const Tensor zero = x.new_zeros({});
                  Tensor dx, dy;
                  if (ctx.needs(0)) dx = ctx.grad() * y * pow(x, y - 1.0);
                  if (ctx.needs(1)) dy = ctx.grad() * pow(x, y) * log(x + equal(x, zero));
                  return {dx, dy};
                });
}

// z = s x + t: dz = s dx
Tensor affine(const Tensor& x, double scale, double shift) {
  return record("affine", apply_unary("affine", Unary::affine, x, scale, shift), {x}, {},
                [scale](const Backward& ctx) -> Tensors { return {ctx.grad() * scale}; });
}

const Tensor& affine_(const Tensor& x, double scale, double shift) {
  check_inplace("affine_", x);
  apply_unary_inplace("affine_", Unary::affine, x, scale, shift);
  return record_inplace("affine_", x, {}, {},
                        [scale](const Backward& ctx) -> Tensors { return {ctx.grad() * scale}; });
}

Tensor operator/(double a, const Tensor& b) {
  return reciprocal(b) * a;
}
Tensor operator-(const Tensor& x) {
  return affine(x, -1, 0);
}

// The gradient goes to the larger operand, half to each where they are equal.
Tensor maximum(const Tensor& a, const Tensor& b) {
  return record("maximum", apply_binary("maximum", Binary::maximum, a, b), {a, b}, {a, b},
                [](const Backward& ctx) -> Tensors {
                  const Tensor x = ctx.saved(0), y = ctx.saved(1);
                  const Tensor to_a = greater(x, y) + equal(x, y) * 0.5;
                  return {ctx.grad() * to_a, ctx.grad() * (1 - to_a)};
                });
}

Tensor equal(const Tensor& a, const Tensor& b) {
  return apply_binary("equal", Binary::equal, a, b);
}
Tensor greater(const Tensor& a, const Tensor& b) {
  return apply_binary("greater", Binary::greater, a, b);
}

}  // namespace grapnel
