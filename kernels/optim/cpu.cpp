// SGD and Adam, element by element: no element looks at another, so threads may cut anywhere.
#include <cmath>

#include "grapnel/kernels/common/plane.h"
#include "grapnel/kernels/optim/optim.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {
namespace {

constexpr std::int64_t kGrain = 1 << 15;  // elements worth a thread

template <class T>
void sgd_one(const SGDStep& step, const OptimTensor<T>& x) {
  T* const p = x.p;
  const T* const g = x.g;
  T* const v = x.v;
  const T lr = static_cast<T>(step.lr), decay = static_cast<T>(step.weight_decay);
  const T momentum = static_cast<T>(step.momentum), kept = static_cast<T>(1 - step.dampening);
  const bool nesterov = step.nesterov;
  parallel_for(x.count, kGrain, [=](std::int64_t begin, std::int64_t end) {
    if (v == nullptr) {
      GRAPNEL_INDEPENDENT
      for (std::int64_t i = begin; i < end; ++i) p[i] -= lr * (g[i] + decay * p[i]);
      return;
    }
    GRAPNEL_INDEPENDENT
    for (std::int64_t i = begin; i < end; ++i) {
      const T d = g[i] + decay * p[i];
      v[i] = momentum * v[i] + kept * d;
      p[i] -= lr * (nesterov ? d + momentum * v[i] : v[i]);
    }
  });
}

template <class T>
void adam_one(const AdamStep& step, const OptimTensor<T>& x) {
  T *const p = x.p, *const m = x.m, *const v = x.v;
  const T* const g = x.g;
  const T keep = static_cast<T>(step.decoupled ? 1 - step.lr * step.weight_decay : 1);
  const T decay = static_cast<T>(step.decoupled ? 0 : step.weight_decay);
  const T beta2 = static_cast<T>(step.beta2), eps = static_cast<T>(step.eps);
  const T new_mean = static_cast<T>(1 - step.beta1), new_square = static_cast<T>(1 - step.beta2);
  const T size = static_cast<T>(step.lr / step.correction1);
  const T root = static_cast<T>(std::sqrt(step.correction2));
  parallel_for(x.count, kGrain, [=](std::int64_t begin, std::int64_t end) {
    GRAPNEL_INDEPENDENT
    for (std::int64_t i = begin; i < end; ++i) {
      const T d = g[i] + decay * p[i];
      m[i] += new_mean * (d - m[i]);
      v[i] = beta2 * v[i] + new_square * d * d;
      p[i] = keep * p[i] - size * m[i] / (std::sqrt(v[i]) / root + eps);
    }
  });
}

template <class T>
void sgd(const SGDStep& step, std::int64_t tensors, const OptimTensor<T>* list) {
  for (std::int64_t t = 0; t < tensors; ++t) sgd_one(step, list[t]);
}

template <class T>
void adam(const AdamStep& step, std::int64_t tensors, const OptimTensor<T>* list) {
  for (std::int64_t t = 0; t < tensors; ++t) adam_one(step, list[t]);
}

template <class T>
void fill(FloatKernels<T>& table) {
  table.sgd = sgd<T>;
  table.adam = adam<T>;
}

}  // namespace

void fill_optim(FloatKernels<float>& table, Isa) {
  fill(table);
}
void fill_optim(FloatKernels<double>& table, Isa) {
  fill(table);
}

}  // namespace grapnel::kernels
