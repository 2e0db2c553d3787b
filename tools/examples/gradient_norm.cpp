// One hook over many gradients: the norm of all of them, as soon as the last one is there.
#include <cmath>

#include "example.h"
#include "grapnel/engine/multi_grad_hook.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/random.h"
#include "grapnel/nn/resnet.h"

using namespace grapnel;

int main() {
  const auto net = nn::resnet18({.num_classes = 10, .width = 8});
  net->eval();
  Generator generator(1);
  int calls = 0;
  double squares = 0;
  const ScopedHook hook = register_all_grads_hook(net->parameters(), [&](const Tensors& gradients) {
    ++calls;
    for (const Tensor& gradient : gradients) squares += sum(gradient * gradient).item();
  });
  sum((*net)(Tensor::randn({1, 3, 64, 64}, generator))).backward();

  double expected = 0;
  for (const Tensor& parameter : net->parameters())
    expected += sum(parameter.grad() * parameter.grad()).item();
  return promise(calls == 1 && expected > 0 && std::abs(squares - expected) <= 1e-6 * expected,
                 "one call, with the gradients of all 62 parameters");
}
