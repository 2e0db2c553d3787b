#include "grapnel/nn/sgd.h"

#include "grapnel/engine/backend.h"

namespace grapnel::nn {

SGD::SGD(Tensors parameters, const SGDOptions& options) : SGD(Groups{{std::move(parameters), options}}) {}

SGD::SGD(const Groups& groups) : GroupedOptimizer(groups, {"velocity"}) {
  for (const auto& [parameters, options] : groups) {
    check_not_negative("SGD", "lr", options.lr);
    check_not_negative("SGD", "momentum", options.momentum);
    check_not_negative("SGD", "weight_decay", options.weight_decay);
    if (options.nesterov && (options.momentum == 0 || options.dampening != 0))
      throw Error("SGD: nesterov needs a momentum above 0 and no dampening, got momentum " +
                  std::to_string(options.momentum) + " and dampening " + std::to_string(options.dampening));
  }
}

bool SGD::keeps_slots(std::size_t group) const {
  return options(group).momentum != 0;
}

void SGD::update(std::size_t group, const Tensor& parameter, const Tensor& gradient, History& history) {
  const SGDOptions& set = options(group);
  kernels::SGDStep step{set.lr, set.momentum, set.dampening, set.weight_decay, set.nesterov};
  Tensor velocity;
  if (keeps_slots(group)) {
    Tensor& kept = history.slots[0];
    if (!kept.defined()) {
      kept = parameter.new_zeros(parameter.shape());
      step.dampening = 0;  // so that v becomes g
    }
    velocity = kept;
  }
  dispatch("SGD", parameter, [&]<class T>(const kernels::FloatKernels<T>& table) {
    table.sgd(step, parameter.numel(), parameter.data<T>(), gradient.data<T>(),
              velocity.defined() ? velocity.data<T>() : nullptr);
  });
}

}  // namespace grapnel::nn
