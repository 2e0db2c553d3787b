#include "grapnel/nn/init.h"

#include <cmath>
#include <utility>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/random.h"

namespace grapnel::nn {
namespace {

thread_local bool skipping = false;

}  // namespace

SkipInit::SkipInit() : previous_(std::exchange(skipping, true)) {}
SkipInit::~SkipInit() {
  skipping = previous_;
}
bool SkipInit::active() {
  return skipping;
}

void fill_uniform(const Tensor& x, double low, double high) {
  NoGrad no_grad;
  x.copy_(affine(Tensor::rand(x.shape(), default_generator(), x.dtype(), Device::cpu()), high - low, low));
}

void fill_normal(const Tensor& x, double mean, double standard_deviation) {
  NoGrad no_grad;
  x.copy_(affine(Tensor::randn(x.shape(), default_generator(), x.dtype(), Device::cpu()), standard_deviation,
                 mean));
}

void fill_kaiming_normal(const Tensor& weight) {
  const double fan_out = static_cast<double>(weight.numel() / weight.size(1));
  fill_normal(weight, 0, std::sqrt(2 / fan_out));
}

void init_default(const Tensor& weight, const Tensor& bias) {
  if (skipping) return;
  const double bound = 1 / std::sqrt(static_cast<double>(weight.numel() / weight.size(0)));
  fill_uniform(weight, -bound, bound);
  if (bias.defined()) fill_uniform(bias, -bound, bound);
}

}  // namespace grapnel::nn
