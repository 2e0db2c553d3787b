// Freezing a layer by a full backward hook: nothing below it gets a gradient, and it is released by removing
// the hook, without touching requires_grad.
#include "example.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/layers.h"

using namespace grapnel;

int main() {
  const auto first = std::make_shared<nn::Linear>(4, 4), second = std::make_shared<nn::Linear>(4, 2);
  const Tensor x = Tensor::ones({1, 4});
  const auto gradient_of_first = [&] {
    first->zero_grad();
    sum((*second)((*first)(x))).backward();
    const Tensor gradient = first->parameters()[0].grad();
    return gradient.defined() ? sum(abs(gradient)).item() : 0;
  };

  const double free = gradient_of_first();
  HookHandle frozen = second->register_full_backward_hook(
      [](nn::Module&, const Tensors& grad_inputs, const Tensors&) -> std::optional<Tensors> {
        return Tensors{grad_inputs[0] * 0.0};
      });
  const double held = gradient_of_first();
  frozen.remove();
  return promise(free > 0 && held == 0 && gradient_of_first() == free,
                 "the first layer learns, does not learn, and learns again");
}
