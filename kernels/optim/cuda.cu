// SGD and Adam on a GPU, a thread an element.
#include <cmath>

#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;

struct SGDFactors {
  float lr, momentum, kept, decay;
  bool nesterov;
};

GRAPNEL_KERNEL(kBlockThreads)
sgd_kernel(SGDFactors f, std::int64_t count, Global<float> p, Global<const float> g) {
  const std::int64_t i = element();
  if (i >= count) return;
  const float value = load(p, i);
  store(p, i, value - f.lr * (load(g, i) + f.decay * value));
}

GRAPNEL_KERNEL(kBlockThreads)
sgd_momentum_kernel(SGDFactors f, std::int64_t count, Global<float> p, Global<const float> g,
                    Global<float> v) {
  const std::int64_t i = element();
  if (i >= count) return;
  const float value = load(p, i), d = load(g, i) + f.decay * value;
  const float velocity = f.momentum * load(v, i) + f.kept * d;
  store(v, i, velocity);
  store(p, i, value - f.lr * (f.nesterov ? d + f.momentum * velocity : velocity));
}

void sgd(const SGDStep& step, std::int64_t count, float* p, const float* g, float* v) {
  const SGDFactors factors{static_cast<float>(step.lr), static_cast<float>(step.momentum),
                           static_cast<float>(1 - step.dampening), static_cast<float>(step.weight_decay),
                           step.nesterov};
  if (v == nullptr)
    launch_each("sgd", count, sgd_kernel, factors, count, p, g);
  else
    launch_each("sgd", count, sgd_momentum_kernel, factors, count, p, g, v);
}

struct AdamFactors {
  float keep, decay, new_mean, beta2, new_square, size, root, eps;
};

GRAPNEL_KERNEL(kBlockThreads)
adam_kernel(AdamFactors f, std::int64_t count, Global<float> p, Global<const float> g, Global<float> m,
            Global<float> v) {
  const std::int64_t i = element();
  if (i >= count) return;
  const float value = load(p, i), d = load(g, i) + f.decay * value;
  const float old = load(m, i), mean = old + f.new_mean * (d - old);
  const float square = f.beta2 * load(v, i) + f.new_square * d * d;
  store(m, i, mean);
  store(v, i, square);
  store(p, i, f.keep * value - f.size * mean / (std::sqrt(square) / f.root + f.eps));
}

void adam(const AdamStep& step, std::int64_t count, float* p, const float* g, float* m, float* v) {
  const AdamFactors factors{
      static_cast<float>(step.decoupled ? 1 - step.lr * step.weight_decay : 1),
      static_cast<float>(step.decoupled ? 0 : step.weight_decay),
      static_cast<float>(1 - step.beta1),
      static_cast<float>(step.beta2),
      static_cast<float>(1 - step.beta2),
      static_cast<float>(step.lr / step.correction1),
      static_cast<float>(std::sqrt(step.correction2)),
      static_cast<float>(step.eps),
  };
  launch_each("adam", count, adam_kernel, factors, count, p, g, m, v);
}

}  // namespace

void fill_optim_cuda(FloatKernels<float>& table) {
  table.sgd = sgd;
  table.adam = adam;
}

}  // namespace grapnel::kernels
