// A full backward pre-hook: what a layer learns from is halved, whatever layers come after it.
#include "example.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/layers.h"

using namespace grapnel;

int main() {
  nn::Linear layer(3, 2);
  const Tensor x = Tensor::ones({1, 3});
  const auto gradient = [&] {
    layer.zero_grad();
    sum(layer(x)).backward();
    return layer.parameters()[0].grad().to_vector<float>();
  };
  const std::vector<float> whole = gradient();
  HookHandle hook = layer.register_full_backward_pre_hook(
      [](nn::Module&, const Tensors& grad_outputs) { return std::optional(Tensors{grad_outputs[0] * 0.5}); });
  const std::vector<float> half = gradient();
  hook.remove();
  return promise(
      whole == std::vector<float>(6, 1) && half == std::vector<float>(6, 0.5) && gradient() == whole,
      "half the gradient while the hook is there");
}
