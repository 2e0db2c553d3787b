#include "support/gradcheck.h"

#include <cmath>
#include <sstream>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "support/device.h"

namespace grapnel::testing {
namespace {

// A central difference of step h errs by about h^2 |f'''| / 6 from the curve and 2^-53 |f| / h from rounding;
// at h = 1e-5 and values of order 1 to 10 both lie near 1e-10. A wrong term is off by far more than the gate.
constexpr double kStep = 1e-5;
constexpr double kGate = 1e-6;

Tensor weights_like(const Tensor& y, std::uint64_t seed) {
  Generator generator(seed);
  return Tensor::rand(y.shape(), generator, DType::float64) + 0.5;
}

double weighted(const Function& f, const Tensors& inputs) {
  NoGrad guard;
  const Tensor y = f(inputs);
  return sum(y * weights_like(y, 99)).item();
}

}  // namespace

Tensor leaf(const Shape& shape, std::uint64_t seed, double low, double high) {
  Generator generator(seed);
  const Tensor values = Tensor::rand(shape, generator, DType::float64, Device::cpu()) * (high - low) + low;
  return values.to(finest_type()).to(default_device()).detach().set_requires_grad();
}

Tensor distinct(const Shape& shape, std::uint64_t seed) {
  const auto count = static_cast<std::size_t>(numel(shape));
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = (static_cast<double>(i) - static_cast<double>(count) / 2 + 0.3) * 0.1;
  for (std::size_t i = count; i > 1; --i) std::swap(values[i - 1], values[Generator::bits_at(seed, i) % i]);
  return Tensor::from<double>(values, shape).to(finest_type()).set_requires_grad();
}

Tensor nhwc(const Tensor& x) {
  return x.detach().contiguous(MemoryFormat::channels_last).set_requires_grad();
}

std::string gradcheck(const Function& f, const Tensors& inputs) {
  const Tensor y = f(inputs);
  if (!y.requires_grad()) return "the result requires no gradient";
  Tensors wanted;
  for (const Tensor& input : inputs)
    if (input.requires_grad()) wanted.push_back(input);
  const Tensors gradients = grad({sum(y * weights_like(y, 99))}, wanted, {}, {.allow_unused = true});
  std::size_t next = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].requires_grad()) continue;
    const Tensor& gradient = gradients[next++];
    const std::vector<double> analytic =
        gradient.defined() ? gradient.to_vector<double>()
                           : std::vector<double>(static_cast<std::size_t>(inputs[i].numel()), 0.0);
    if (gradient.defined() && gradient.shape() != inputs[i].shape())
      return "gradient of input " + std::to_string(i) + " has shape " + to_string(gradient.shape());
    const std::vector<double> values = inputs[i].to_vector<double>();
    for (std::size_t e = 0; e < values.size(); ++e) {
      const auto at = [&](double shift) {
        std::vector<double> moved = values;
        moved[e] += shift;
        Tensors changed = inputs;
        changed[i] = Tensor::from<double>(moved, inputs[i].shape());
        return weighted(f, changed);
      };
      const double numeric = (at(kStep) - at(-kStep)) / (2 * kStep);
      if (!(std::abs(numeric - analytic[e]) <= kGate * std::max(1.0, std::abs(numeric)))) {
        std::ostringstream message;
        message << "input " << i << ", element " << e << ": gradient " << analytic[e]
                << ", difference quotient " << numeric;
        return message.str();
      }
    }
  }
  return {};
}

std::string gradgradcheck(const Function& f, const Tensors& inputs) {
  Tensor y;
  {
    NoGrad guard;
    y = f(inputs);
  }
  Tensors with_v = inputs;
  with_v.push_back(weights_like(y, 7).set_requires_grad());
  const Function gradient_of_f = [&](const Tensors& all) {
    // Central differences run without a graph outside; the inner gradient needs one all the same.
    GradMode mode(true);
    const Tensors xs(all.begin(), all.end() - 1);
    Tensors wanted, local;
    for (std::size_t i = 0; i < xs.size(); ++i) {
      local.push_back(xs[i]);
      if (!inputs[i].requires_grad()) continue;
      if (!xs[i].requires_grad()) local.back() = xs[i].detach().set_requires_grad();
      wanted.push_back(local.back());
    }
    const Tensor out = f(local);
    Tensor total = Tensor::zeros({}, DType::float64);
    for (const Tensor& g : grad({out}, wanted, {all.back()}, {.create_graph = true, .allow_unused = true})) {
      if (!g.defined()) continue;
      Generator generator(static_cast<std::uint64_t>(g.numel()) + 31);
      total = total + sum(g * Tensor::rand(g.shape(), generator, DType::float64));
    }
    return total;
  };
  return gradcheck(gradient_of_f, with_v);
}

}  // namespace grapnel::testing
