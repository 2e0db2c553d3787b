// Keeping what a layer inside a network returned, and the gradient that reached it.
#include "example.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/random.h"
#include "grapnel/nn/resnet.h"

using namespace grapnel;

int main() {
  const auto net = nn::resnet18({.num_classes = 10, .width = 8});
  net->eval();
  Generator generator(1);
  const Tensor picture = Tensor::randn({1, 3, 64, 64}, generator);

  Tensor activation, gradient;
  {
    const ScopedHook hook = net->at("layer4").register_forward_hook(
        [&](nn::Module&, const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
          activation = outputs[0].detach();
          outputs[0].register_hook([&](const Tensor& g) -> std::optional<Tensor> {
            gradient = g;
            return std::nullopt;
          });
          return std::nullopt;  // leave the output as it is
        });
    const Tensor logits = (*net)(picture);
    select(select(logits, 0, 0), 0, 3).backward();
  }  // the hook is gone

  activation.fill_(0);  // ours to keep: nothing else sees it
  const Tensor kept = activation;
  (*net)(picture);
  return promise(kept.is_same(activation) && gradient.shape() == activation.shape(),
                 "layer4's output and its gradient, both (1, 64, 2, 2), and no hook left behind");
}
