// What a training step costs in memory.
#include <doctest/doctest.h>

#include "grapnel/engine/ops.h"
#include "grapnel/engine/storage.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/sgd.h"
#include "support/device.h"

using namespace grapnel;

TEST_CASE("after the second step, training takes no memory from the system" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  for (const char* model : {"resnet18", "vgg16"}) {
    CAPTURE(model);
    Generator generator(3);
    const auto net = nn::make_model(model, {.num_classes = 10, .width = 8, .inplace = true});
    nn::SGD optimizer(net->parameters(), {.lr = 0.01, .momentum = 0.9, .weight_decay = 1e-4});
    const Tensor x = Tensor::randn({4, 3, 64, 64}, generator);
    const Tensor labels = Tensor::zeros({4}, DType::int64);
    const auto step = [&] {
      cross_entropy((*net)(x), labels).backward();
      optimizer.step();
      optimizer.zero_grad();
    };
    step();
    step();
    const MemoryUse before = memory_use();
    for (int i = 0; i < 4; ++i) step();
    CHECK(memory_use().system_requests == before.system_requests);
    CHECK(memory_use().in_use == before.in_use);
  }
}
