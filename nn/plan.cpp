#include "grapnel/nn/plan.h"

#include <utility>

#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"

namespace grapnel {

Plan::Plan(std::shared_ptr<nn::Module> net, const Tensor& example) : net_(std::move(net)) {
  if (net_->training())
    throw Error("plan: the network (" + net_->type_name() + ") is in training mode; call eval() first");
  for (int i = 0; i < 2; ++i) (*this)(example);
}

Tensor Plan::operator()(const Tensor& x) const {
  const InferenceMode inference;
  const Fusion fusion;
  return (*net_)(x);
}

}  // namespace grapnel
