// Spectral normalisation (Miyato et al., 2018) as a forward pre-hook: before each call, a step of power
// iteration estimates the weight's largest singular value, and the weight is divided by it.
#include <cmath>

#include "example.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/random.h"
#include "grapnel/nn/layers.h"

using namespace grapnel;

namespace {

Tensor normalised(const Tensor& x) {
  return x / sqrt(sum(x * x));
}

}  // namespace

int main() {
  nn::Linear layer(8, 6);
  Generator generator(3);
  const Tensor weight = layer.parameters()[0];  // (6, 8)
  Tensor left = normalised(Tensor::randn({6, 1}, generator));

  const ScopedHook hook =
      layer.register_forward_pre_hook([&](nn::Module&, const Tensors&) -> std::optional<Tensors> {
        const NoGrad guard;
        const Tensor right = normalised(matmul(transpose(weight, 0, 1), left));
        left = normalised(matmul(weight, right));
        weight.copy_(weight / sum(left * matmul(weight, right)));
        return std::nullopt;
      });
  for (int i = 0; i < 100; ++i) layer(Tensor::ones({1, 8}));

  // The largest singular value is now one: no direction is stretched by more, and the one found by that much.
  const Tensor right = normalised(matmul(transpose(weight, 0, 1), left));
  const double largest = sum(left * matmul(weight, right)).item();
  return promise(std::abs(largest - 1) < 1e-4, "the layer's largest singular value is one");
}
