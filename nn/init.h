// Where parameters start. Everything draws from default_generator() (engine/random.h), on the calling thread.
#pragma once

#include "grapnel/engine/tensor.h"

namespace grapnel::nn {

/// While one is alive on this thread, layers leave weights and biases uninitialised: for a net whose state is
/// loaded anyway. Batch norm's ones and zeros are always set.
class SkipInit {
 public:
  SkipInit();
  ~SkipInit();
  SkipInit(const SkipInit&) = delete;
  SkipInit& operator=(const SkipInit&) = delete;

  static bool active();

 private:
  bool previous_;
};

// Each overwrites all elements, records nothing, and accepts leaves that require a gradient.
void fill_uniform(const Tensor& x, double low, double high);
void fill_normal(const Tensor& x, double mean, double standard_deviation);

/// Kaiming normal for ReLU over fan_out = out * R * S (He et al., ICCV 2015), as in torchvision; weight (out,
/// in, R, S).
void fill_kaiming_normal(const Tensor& weight);

/// The start of PyTorch's Conv2d and Linear, weight (out, in, ...): both uniform within 1/sqrt(fan_in), which
/// for the weight is Kaiming uniform with slope sqrt(5). `bias` may be unset. Does nothing under SkipInit.
void init_default(const Tensor& weight, const Tensor& bias);

}  // namespace grapnel::nn
