// Checking gradients against central differences, in float64.
#pragma once

#include <functional>
#include <string>

#include "grapnel/engine/tensor.h"

namespace grapnel::testing {

using Function = std::function<Tensor(const Tensors& inputs)>;

/// Compares the gradient of sum(f(x) * v), v fixed and irregular, with central differences over every element
/// of every input that requires a gradient. Returns an empty string, or what differs. Inputs must be float64.
std::string gradcheck(const Function& f, const Tensors& inputs);

/// The same for the gradient itself, as a function of the inputs and of v.
std::string gradgradcheck(const Function& f, const Tensors& inputs);

/// Irregular values in about [low, high], the same for the same seed, of the finest type; requires a
/// gradient.
Tensor leaf(const Shape& shape, std::uint64_t seed, double low = -1, double high = 1);

/// Distinct values, at least 0.05 apart and away from zero: maxima and kinks stay where they are under a
/// small step.
Tensor distinct(const Shape& shape, std::uint64_t seed);

/// A leaf in channels-last memory order.
Tensor nhwc(const Tensor& x);

}  // namespace grapnel::testing
