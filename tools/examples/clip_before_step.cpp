// Hooks around an optimizer's step: gradients are clipped before it, and steps are counted after it.
#include "example.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/sgd.h"

using namespace grapnel;

int main() {
  const Tensor w = Tensor::scalar(0).set_requires_grad();
  nn::SGD optimizer({w}, {.lr = 0.1});
  int steps = 0;
  const ScopedHook clip =
      optimizer.register_step_pre_hook([&](nn::Optimizer&) { w.set_grad(clamp(w.grad(), -1, 1)); });
  const ScopedHook count = optimizer.register_step_post_hook([&](nn::Optimizer&) { ++steps; });
  for (int i = 0; i < 3; ++i) {
    optimizer.zero_grad();
    mse_loss(w, Tensor::scalar(100)).backward();
    optimizer.step();
  }
  return promise(steps == 3 && w.item() > 0.29f && w.item() < 0.31f,
                 "three steps of 0.1 each, however steep the loss");
}
