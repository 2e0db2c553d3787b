// Whole networks on the model of a Hopper: a training step in every precision.
#include "cuda_host/precisions.h"
#include "devices/networks.h"
#include "grapnel/nn/models.h"

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

#ifndef GRAPNEL_SANITIZED  // minutes
TEST_CASE("Hopper, ResNet18: a training step, whose last stage has channels enough") {
  const auto net = [] { return nn::make_model("resnet18", {.num_classes = 5, .width = 4}); };
  check_on_hopper({net, {1, 3, 32, 32}, 18, true}, Precision::fp32);
  check_on_hopper({net, {1, 3, 32, 32}, 18, true}, Precision::bf16);
}
#endif
