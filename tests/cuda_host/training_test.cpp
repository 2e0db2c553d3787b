// A training step on the model of a GPU: what the host does not do.
#include <doctest/doctest.h>

#include "cuda_host/capture.h"
#include "grapnel/engine/backward.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/adam.h"
#include "grapnel/nn/layers.h"
#include "grapnel/nn/sgd.h"

using namespace grapnel;

TEST_CASE("a training step waits for nothing, and its optimizers start one kernel each") {
  default_generator() = Generator(3);
  nn::Linear net(4, 3);
  net.to(Device::cuda());
  nn::SGD sgd(net.parameters(), {.lr = 0.1, .momentum = 0.9});
  nn::AdamW adam(net.parameters());
  Generator generator(4);
  const Tensor x = Tensor::randn({2, 4}, generator).to(Device::cuda());
  const Tensor labels = Tensor::from<std::int64_t>({2, 0}, {2}).to(Device::cuda());
  const cuda_host::Activity& activity = cuda_host::activity();
  const std::uint64_t waits = activity.waits;
  std::uint64_t launches = 0;
  for (int step = 0; step < 2; ++step) {
    net.zero_grad();
    cross_entropy(net(x), labels, {.label_smoothing = 0.1}).backward();
    launches = activity.launches;
    sgd.step();
    adam.step();
  }
  CHECK(activity.launches - launches == 2);
  CHECK(activity.waits == waits);
}
