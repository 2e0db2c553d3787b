// Changing a gradient on its way: a hook that clips what flows into the layers below it.
#include "example.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;

int main() {
  const Tensor x = Tensor::from<float>({1, 10, 100}, {3}).set_requires_grad();
  const Tensor y = x * x;  // dy/dx = 2x
  y.register_hook([](const Tensor& g) { return std::optional(clamp(g, -1, 1)); });
  sum(y * Tensor::from<float>({0.5, 5, 50}, {3})).backward();
  // The gradient of y was (0.5, 5, 50) and is now (0.5, 1, 1).
  return promise(x.grad().to_vector<float>() == std::vector<float>{1, 20, 200},
                 "x.grad is 2x times the clipped gradient");
}
