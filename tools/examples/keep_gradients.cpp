// Looking at the gradient of an intermediate value: only leaves keep theirs, unless asked.
#include "example.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;

int main() {
  const Tensor x = Tensor::scalar(3).set_requires_grad();
  const Tensor square = x * x, other = x * 2.0;
  square.retain_grad();
  (square * other).backward();
  return promise(square.grad().item() == 6 && !other.grad().defined() && x.grad().item() == 54,
                 "x^2 kept its gradient 2x, 2x did not, and x has 6x^2");
}
