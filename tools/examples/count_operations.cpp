// Hooks on recorded operations: how often each kind runs in a backward pass, and a gradient changed in
// between.
#include <map>
#include <string>

#include "example.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;

int main() {
  const Tensor x = Tensor::from<float>({1, 2}, {2}).set_requires_grad();
  const Tensor a = exp(x), b = a * x, c = sum(b);

  std::map<std::string, int> runs;
  for (const Tensor& value : {a, b}) {
    Node& node = *value.grad_fn();
    node.register_hook([&runs, name = std::string(node.name())](const Tensors&, const Tensors&) {
      ++runs[name];
      return std::nullopt;
    });
  }
  // Before the product runs: double the gradient of its output.
  b.grad_fn()->register_prehook(
      [](const Tensors& outputs) { return std::optional(Tensors{outputs[0] * 2.0}); });

  c.backward({}, true);
  const Tensor doubled = x.grad().clone();
  c.backward();
  const Tensor expected = a * (x + 1.0) * 2.0;  // (x e^x)' = e^x (x + 1)
  return promise(runs == std::map<std::string, int>{{"exp", 2}, {"mul", 2}} &&
                     amax(abs(doubled - expected)).item() < 1e-5,
                 "exp and mul ran once a pass, with twice the gradient");
}
