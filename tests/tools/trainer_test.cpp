// The step of a training run.
#include "grapnel/trainer.h"

#include <doctest/doctest.h>

#include "grapnel/engine/ops.h"

using namespace grapnel;

TEST_CASE("a step's loss is shared between the labels of both parts of a mixed picture") {
  const auto net = nn::make_model("resnet18", {.num_classes = 5, .width = 4});
  tools::Trainer trainer({.lr = 0, .label_smoothing = 0.1}, net, 1);  // changes no parameter
  Generator generator(3);
  const Tensor pictures = Tensor::randn({4, 3, 32, 32}, generator);
  const Tensor labels = Tensor::from<std::int64_t>({0, 1, 2, 3}, {4});
  const Tensor others = Tensor::from<std::int64_t>({3, 2, 1, 4}, {4});
  const double own = trainer.step(pictures, labels).loss, other = trainer.step(pictures, others).loss;
  CHECK(own != doctest::Approx(other));
  const Tensor logits = (*net)(pictures);
  CHECK(own == doctest::Approx(cross_entropy(logits, labels, {.label_smoothing = 0.1}).item()));
  for (const double share : {0.0, 0.25, 1.0})
    CHECK(trainer.step(pictures, labels, others, share).loss ==
          doctest::Approx((1 - share) * own + share * other));
}
