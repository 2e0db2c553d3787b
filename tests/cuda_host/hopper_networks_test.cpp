// Whole networks on the model of a Hopper: training steps and plans in every precision.
#include "cuda_host/precisions.h"
#include "devices/networks.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/plan.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::cuda_host;

namespace {

void check_on_hopper(const Training& training, Precision precision) {
  const WithHopper hopper;
  const std::uint64_t before = tensor_maps_made;
  check_step(training, precision);
  CHECK(tensor_maps_made > before);
}

}  // namespace

TEST_CASE("Hopper, a small network: a training step in every precision") {
  for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16})
    check_on_hopper({small_net, {2, 3, 6, 6}, 5, false}, precision);
}

TEST_CASE("Hopper, a small VGG: a plan's answers in every precision") {
  const auto convolved = [](std::int64_t in, std::int64_t out) {
    return std::make_shared<nn::Sequential>(std::vector<std::shared_ptr<nn::Module>>{
        std::make_shared<nn::Conv2d>(in, out, std::pair{3, 3}, Conv2dOptions{.padding = {1, 1}}),
        std::make_shared<nn::ReLU>(), std::make_shared<nn::MaxPool2d>(Pool2dOptions{.kernel = {2, 2}})});
  };
  default_generator() = Generator(2);
  const auto net = std::make_shared<nn::Sequential>(std::vector<std::shared_ptr<nn::Module>>{
      convolved(3, 32), convolved(32, 64), std::make_shared<nn::AdaptiveAvgPool2d>(7, 7),
      std::make_shared<nn::Flatten>(), std::make_shared<nn::Linear>(64 * 7 * 7, 64),
      std::make_shared<nn::ReLU>(), std::make_shared<nn::Dropout>(), std::make_shared<nn::Linear>(64, 5)});
  net->eval();
  Generator generator(3);
  const Tensor x = Tensor::randn({1, 3, 28, 28}, generator);
  net->to(DType::float64);
  const Tensor expected = (*net)(x.to(DType::float64)).detach();
  net->to(DType::float32);
  net->to(kCuda);
  on_hopper([&](Precision precision) {
    const Plan plan(net, x.to(kCuda));
    CHECK(distance({plan(x.to(kCuda))}, {expected}) < error_of_products(4, precision));
  });
}

#ifndef GRAPNEL_SANITIZED  // minutes
TEST_CASE("Hopper, ResNet18: a training step, whose last stage has channels enough") {
  const auto net = [] { return nn::make_model("resnet18", {.num_classes = 5, .width = 4}); };
  check_on_hopper({net, {1, 3, 32, 32}, 18, true}, Precision::fp32);
  check_on_hopper({net, {1, 3, 32, 32}, 18, true}, Precision::bf16);
}
#endif
