// Keeping what the backward pass needs in half precision: half the memory between forward and backward.
#include "example.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/random.h"
#include "grapnel/engine/saved_tensor_hooks.h"
#include "grapnel/nn/resnet.h"

using namespace grapnel;

int main() {
  const auto net = nn::resnet18({.num_classes = 10, .width = 8});
  net->eval();
  Generator generator(1);
  const Tensor picture = Tensor::randn({1, 3, 64, 64}, generator);
  const Tensor weight = net->parameters()[0];

  sum((*net)(picture)).backward();
  const Tensor exact = weight.grad();
  net->zero_grad();

  std::int64_t whole = 0, kept = 0;  // bytes
  {
    const SavedTensorHooks half(
        [&](const Tensor& x) {
          if (x.dtype() != DType::float32) return std::any(x);  // indices, say, must stay what they are
          const Tensor small = x.to(DType::float16);
          whole += x.numel() * 4;
          kept += small.numel() * 2;
          return std::any(small);
        },
        [](const std::any& packed) {
          const Tensor kept_form = std::any_cast<Tensor>(packed);
          return kept_form.dtype() == DType::float16 ? kept_form.to(DType::float32) : kept_form;
        });
    sum((*net)(picture)).backward();
  }
  const Tensor difference = weight.grad() - exact;
  const double relative = sqrt(sum(difference * difference)).item() / sqrt(sum(exact * exact)).item();
  std::printf("saved %lld KiB instead of %lld, gradient off by %.1e\n", static_cast<long long>(kept / 1024),
              static_cast<long long>(whole / 1024), relative);
  return promise(kept * 2 == whole && relative > 0 && relative < 0.02,
                 "half the memory, and a gradient that differs by rounding only");
}
