// SGD and Adam on a GPU: one launch for many tensors, whose addresses travel as the kernel's parameters. A
// network has dozens of parameters of a few elements each, which would be a launch each.
#include <cmath>

#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;

constexpr int kMostTensors = 64;  // a kernel's parameters are 4 KB at most
constexpr std::int64_t kBlockElements = 8 * kBlockThreads;

/// Tensor t is the work of the blocks from first_block[t] on.
struct TensorList {
  int tensors = 0;
  unsigned blocks = 0;
  unsigned first_block[kMostTensors] = {};
  OptimTensor<float> tensor[kMostTensors] = {};
};
static_assert(sizeof(TensorList) < 4000);

struct SGDUpdate {
  float lr, momentum, kept, decay;
  bool nesterov;

  GRAPNEL_DEVICE void operator()(const OptimTensor<float>& x, std::int64_t i) const {
    const Global<float> p = x.p;
    const float value = load(p, i), d = load(Global<const float>(x.g), i) + decay * value;
    float direction = d;
    if (x.v) {
      const Global<float> v = x.v;
      const float velocity = momentum * load(v, i) + kept * d;
      store(v, i, velocity);
      direction = nesterov ? d + momentum * velocity : velocity;
    }
    store(p, i, value - lr * direction);
  }
};

struct AdamUpdate {
  float keep, decay, new_mean, beta2, new_square, size, root, eps;

  GRAPNEL_DEVICE void operator()(const OptimTensor<float>& x, std::int64_t i) const {
    const Global<float> p = x.p, m = x.m, v = x.v;
    const float value = load(p, i), d = load(Global<const float>(x.g), i) + decay * value;
    const float old = load(m, i), mean = old + new_mean * (d - old);
    const float square = beta2 * load(v, i) + new_square * d * d;
    store(m, i, mean);
    store(v, i, square);
    store(p, i, keep * value - size * mean / (std::sqrt(square) / root + eps));
  }
};

template <class Update>
GRAPNEL_KERNEL(kBlockThreads)
update_kernel(TensorList list, Update update) {
  after_previous();
  int at = 0;
  for (int end = list.tensors; end - at > 1;) {
    const int middle = (at + end) / 2;
    (list.first_block[middle] <= block().x ? at : end) = middle;
  }
  const OptimTensor<float> x = list.tensor[at];
  const std::int64_t begin = (block().x - list.first_block[at]) * kBlockElements + thread().x;
  for (std::int64_t i = begin; i < begin + kBlockElements && i < x.count; i += kBlockThreads) update(x, i);
}

template <class Update>
void update_all(const char* name, std::int64_t tensors, const OptimTensor<float>* tensor,
                const Update& update) {
  TensorList list;
  for (std::int64_t t = 0; t < tensors; ++t) {
    if (tensor[t].count > 0) {
      list.first_block[list.tensors] = list.blocks;
      list.tensor[list.tensors++] = tensor[t];
      list.blocks += static_cast<unsigned>((tensor[t].count + kBlockElements - 1) / kBlockElements);
    }
    if (list.tensors == kMostTensors || (t == tensors - 1 && list.tensors > 0)) {
      device::launch(name, {list.blocks}, {kBlockThreads}, 0, update_kernel<Update>, list, update);
      list.tensors = 0;
      list.blocks = 0;
    }
  }
}

void sgd(const SGDStep& step, std::int64_t tensors, const OptimTensor<float>* list) {
  update_all("sgd", tensors, list,
             SGDUpdate{static_cast<float>(step.lr), static_cast<float>(step.momentum),
                       static_cast<float>(1 - step.dampening), static_cast<float>(step.weight_decay),
                       step.nesterov});
}

void adam(const AdamStep& step, std::int64_t tensors, const OptimTensor<float>* list) {
  update_all("adam", tensors, list,
             AdamUpdate{
                 static_cast<float>(step.decoupled ? 1 - step.lr * step.weight_decay : 1),
                 static_cast<float>(step.decoupled ? 0 : step.weight_decay),
                 static_cast<float>(1 - step.beta1),
                 static_cast<float>(step.beta2),
                 static_cast<float>(1 - step.beta2),
                 static_cast<float>(step.lr / step.correction1),
                 static_cast<float>(std::sqrt(step.correction2)),
                 static_cast<float>(step.eps),
             });
}

}  // namespace

void fill_optim_cuda(FloatKernels<float>& table) {
  table.sgd = sgd;
  table.adam = adam;
}

}  // namespace grapnel::kernels
