#include "grapnel/nn/sgd.h"

#include <algorithm>

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

void SGD::update(std::size_t group, Updates updates) {
  const SGDOptions& set = options(group);
  const bool keeps = keeps_slots(group);
  const auto step = [&](Updates some, double dampening) {
    if (some.empty()) return;
    dispatch("SGD", some[0].parameter, [&]<class T>(const kernels::FloatKernels<T>& table) {
      PoolVector<kernels::OptimTensor<T>> list;
      for (const Update& x : some)
        list.push_back({x.parameter.numel(), x.parameter.data<T>(), x.gradient.data<T>(), nullptr,
                        keeps ? x.history->slots[0].data<T>() : nullptr});
      table.sgd({set.lr, set.momentum, dampening, set.weight_decay, set.nesterov}, std::ssize(list),
                list.data());
    });
  };
  const auto first = std::partition(updates.begin(), updates.end(), [keeps](const Update& update) {
    return !keeps || update.history->slots[0].defined();
  });
  for (auto update = first; update != updates.end(); ++update)
    update->history->slots[0] = update->parameter.new_zeros(update->parameter.shape());
  step({updates.begin(), first}, set.dampening);
  step({first, updates.end()}, 0);  // so that v becomes g
}

}  // namespace grapnel::nn
