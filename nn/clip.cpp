#include "grapnel/nn/clip.h"

#include <cmath>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"

namespace grapnel::nn {
namespace {

void check_limit(const char* function, double limit) {
  if (!(limit >= 0))
    throw Error(std::string(function) + ": the limit is " + std::to_string(limit) + ", expected at least 0");
}

}  // namespace

double clip_grad_norm(const Tensors& parameters, double max_norm, bool error_if_nonfinite) {
  check_limit("clip_grad_norm", max_norm);
  NoGrad no_grad;
  double squares = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Tensor gradient = parameters[i].grad();
    if (!gradient.defined()) continue;
    squares += sum(gradient * gradient).item();
    if (error_if_nonfinite && !std::isfinite(squares))
      throw Error("clip_grad_norm: the norm is " + std::to_string(squares) +
                  " from the gradient of parameter " + std::to_string(i) + " on, expected a finite one");
  }
  const double norm = std::sqrt(squares), scale = max_norm / (norm + 1e-6);
  if (scale >= 1) return norm;
  for (const Tensor& parameter : parameters)
    if (const Tensor gradient = parameter.grad(); gradient.defined()) affine_(gradient, scale, 0);
  return norm;
}

void clip_grad_value(const Tensors& parameters, double limit) {
  check_limit("clip_grad_value", limit);
  NoGrad no_grad;
  for (const Tensor& parameter : parameters)
    if (const Tensor gradient = parameter.grad(); gradient.defined())
      gradient.copy_(clamp(gradient, -limit, limit));
}

}  // namespace grapnel::nn
