// Clipping of gradients; the expected values are those of torch.nn.utils, worked out by hand.
#include "grapnel/nn/clip.h"

#include <cmath>
#include <limits>

#include "nn/any_hook.h"
#include "nn/scenario.h"
#include "support/device.h"

using namespace grapnel;
using namespace grapnel::testing;

namespace {

Tensor with_gradient(std::initializer_list<double> gradient) {
  const Tensor p =
      Tensor::zeros({static_cast<std::int64_t>(gradient.size())}, finest_type()).set_requires_grad();
  p.set_grad(Tensor::from<double>(gradient, p.shape()).to(p.dtype()));
  return p;
}

}  // namespace

TEST_CASE("clip_grad_norm: all gradients shrink together, if they must") {
  const Tensor a = with_gradient({3, 0}), b = with_gradient({-4}), none = leaf(1);
  const Tensor kept = a.grad();
  CHECK(nn::clip_grad_norm({a, b, none}, 6) == 5);
  CHECK(b.grad().item() == -4);
  CHECK(nn::clip_grad_norm({a, b, none}, 2) == 5);
  CHECK(a.grad().is_same(kept));
  CHECK(a.grad().to_vector<double>()[0] ==
        doctest::Approx(3 * 2 / (5 + 1e-6)).epsilon(8 * epsilon(finest_type())));
  CHECK(b.grad().item() == doctest::Approx(-4 * 2 / (5 + 1e-6)).epsilon(8 * epsilon(finest_type())));
  CHECK_FALSE(none.grad().defined());
  CHECK(nn::clip_grad_norm({none}, 1) == 0);
}

TEST_CASE("clip_grad_norm: a norm that is not finite") {
  const Tensor a = with_gradient({3}), b = with_gradient({std::numeric_limits<double>::infinity()});
  CHECK(message_of<Error>([&] {
          nn::clip_grad_norm({a, b}, 1, true);
        }) == "clip_grad_norm: the norm is inf from the gradient of parameter 1 on, expected a finite one");
  CHECK(a.grad().item() == 3);
  CHECK(std::isinf(nn::clip_grad_norm({a, b}, 1)));
  CHECK(a.grad().item() == 0);
  CHECK(std::isnan(b.grad().item()));
  CHECK(message_of<Error>([&] { nn::clip_grad_norm({a}, -1); }) ==
        "clip_grad_norm: the limit is -1.000000, expected at least 0");
}

TEST_CASE("clip_grad_value: every element is clamped in place") {
  const Tensor a = with_gradient({3, -0.5, -2}), none = leaf(1);
  const Tensor kept = a.grad();
  nn::clip_grad_value({a, none}, 1);
  CHECK(a.grad().is_same(kept));
  CHECK(kept.to_vector<double>() == std::vector<double>{1, -0.5, -1});
  CHECK(message_of<Error>([&] { nn::clip_grad_value({a}, std::nan("")); }) ==
        "clip_grad_value: the limit is nan, expected at least 0");
}
