// Twenty steps of SGD on a ResNet18 in training mode against PyTorch's in float64
// (../golden/make_training.py): the loss before each step, then every parameter and every running statistic.
#include <cmath>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/init.h"
#include "grapnel/nn/resnet.h"
#include "grapnel/nn/sgd.h"
#include "nn/scenario.h"
#include "support/device.h"
#include "support/golden.h"

using namespace grapnel;

namespace {

constexpr std::int64_t kSize = 64, kClasses = 10;
constexpr std::size_t kBatches = 4;

struct Run {
  std::int64_t width, batch;
  double lr;
};
constexpr Run kNarrow{8, 16, 0.001}, kFull{64, 32, 0.001};

void check_training(const Run& run, DType type, double loss_error, double state_error) {
  const testing::GoldenTraining golden = testing::read_training(run.width);
  std::shared_ptr<nn::Module> net;
  {
    nn::SkipInit skip;
    NoGrad no_grad;
    net = nn::resnet18({.num_classes = kClasses, .width = run.width});
    for (auto& [name, tensor] : net->state_dict())
      tensor.copy_(testing::network_tensor(name, tensor.shape()));
  }
  net->to(type);
  nn::SGD optimizer(net->parameters(), {.lr = run.lr, .momentum = 0.9, .weight_decay = 5e-4});
  REQUIRE(golden.losses.size() == 20);
  for (std::size_t step = 0; step < golden.losses.size(); ++step) {
    INFO("step ", step);
    const std::string batch = std::to_string(step % kBatches);
    const Tensor x =
        testing::reals("pictures " + batch, {run.batch, 3, kSize, kSize}, static_cast<float>(std::sqrt(3.0)));
    optimizer.zero_grad();
    const Tensor loss =
        cross_entropy((*net)(x.to(type)), testing::integers("labels " + batch, {run.batch}, kClasses));
    CHECK(std::abs(loss.item() / golden.losses[step] - 1) <= loss_error);
    loss.backward();
    optimizer.step();
  }
  const auto state = net->state_dict();
  REQUIRE(state.size() == golden.state.size());
  for (std::size_t i = 0; i < state.size(); ++i) {
    INFO(golden.state[i].name);
    CHECK(state[i].first == golden.state[i].name);
    CHECK(testing::relative_error(state[i].second, golden.state[i]) <= state_error);
  }
}

}  // namespace

TEST_CASE("training: twenty steps of ResNet18 follow PyTorch" * testing::not_on_model("minutes")) {
  check_training(kFull, DType::float32, 1e-4, 1e-3);
}

TEST_CASE("training: twenty steps of a narrow ResNet18 follow PyTorch" * testing::not_on_model("minutes")) {
  check_training(kNarrow, DType::float32, 1e-4, 1e-3);
}

TEST_CASE("training: in float64 they are the same but for rounding" * testing::on_cpu_only("float64")) {
  check_training(kNarrow, DType::float64, 1e-9, 1e-8);
}
