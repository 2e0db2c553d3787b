// A step of gradient descent inside the backward pass: each weight is updated as soon as its gradient is
// there, and the gradient is freed at once, so that no two of them need memory at the same time.
#include "example.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/layers.h"

using namespace grapnel;

namespace {

Tensor loss_of(nn::Module& net, const Tensor& x, const Tensor& wanted) {
  return mse_loss(net(x), wanted);
}

}  // namespace

int main() {
  constexpr double kRate = 0.1;
  nn::Linear net(2, 1);
  const Tensor x = Tensor::from<float>({1, 2, 3, -1, 0, 1}, {3, 2}), wanted = Tensor::ones({3, 1});

  std::vector<ScopedHook> steps;
  for (const Tensor& weight : net.parameters())
    steps.emplace_back(weight.register_post_accumulate_grad_hook([](Tensor& leaf) {
      const NoGrad guard;  // a leaf may be changed in place only while nothing is recorded
      add_(leaf, leaf.grad() * -kRate);
      leaf.set_grad({});
    }));

  const double before = loss_of(net, x, wanted).item();
  for (int i = 0; i < 200; ++i) loss_of(net, x, wanted).backward();
  bool freed = true;
  for (const Tensor& weight : net.parameters()) freed = freed && !weight.grad().defined();
  return promise(loss_of(net, x, wanted).item() < before / 100 && freed,
                 "the loss fell a hundredfold, and no gradient was kept");
}
