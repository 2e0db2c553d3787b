#include "grapnel/nn/adam.h"

#include <cmath>

#include "grapnel/engine/backend.h"

namespace grapnel::nn {

Adam::Adam(Tensors parameters, const AdamOptions& options) : Adam(Groups{{std::move(parameters), options}}) {}
Adam::Adam(const Groups& groups) : Adam(groups, false) {}
AdamW::AdamW(Tensors parameters, const AdamOptions& options)
    : AdamW(Groups{{std::move(parameters), options}}) {}
AdamW::AdamW(const Groups& groups) : Adam(groups, true) {}

Adam::Adam(const Groups& groups, bool decoupled)
    : GroupedOptimizer(groups, {"exp_avg", "exp_avg_sq"}), decoupled_(decoupled) {
  const char* name = decoupled ? "AdamW" : "Adam";
  for (const auto& [parameters, options] : groups) {
    check_not_negative(name, "lr", options.lr);
    check_not_negative(name, "eps", options.eps);
    check_not_negative(name, "weight_decay", options.weight_decay.value_or(0));
    for (const double beta : {options.betas.first, options.betas.second})
      if (!(beta >= 0 && beta < 1))
        throw Error(std::string(name) + ": a beta is " + std::to_string(beta) +
                    ", expected at least 0 and below 1");
  }
}

void Adam::update(std::size_t group, Updates updates) {
  const AdamOptions& set = options(group);
  for (const auto& [parameter, gradient, history] : updates)
    for (Tensor& slot : history->slots)
      if (!slot.defined()) slot = parameter.new_zeros(parameter.shape());
  const auto t = static_cast<double>(updates[0].history->step);
  const auto [beta1, beta2] = set.betas;
  const kernels::AdamStep step{set.lr,
                               beta1,
                               beta2,
                               set.eps,
                               set.weight_decay.value_or(decoupled_ ? 1e-2 : 0),
                               decoupled_,
                               1 - std::pow(beta1, t),
                               1 - std::pow(beta2, t)};
  dispatch("Adam", updates[0].parameter, [&]<class T>(const kernels::FloatKernels<T>& table) {
    PoolVector<kernels::OptimTensor<T>> list;
    for (const Update& x : updates)
      list.push_back({x.parameter.numel(), x.parameter.data<T>(), x.gradient.data<T>(),
                      x.history->slots[0].data<T>(), x.history->slots[1].data<T>()});
    table.adam(step, std::ssize(list), list.data());
  });
}

}  // namespace grapnel::nn
