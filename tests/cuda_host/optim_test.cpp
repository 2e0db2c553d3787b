// SGD and Adam on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;

namespace {

/// Runs `step` with the two tables on copies of the same numbers and compares all that may change.
template <class Step>
void compare(std::size_t count, bool with_v, const Step& step) {
  FloatKernels<float> cuda{};
  fill_optim_cuda(cuda);
  std::vector<std::vector<float>> host;
  for (unsigned i = 0; i < 4; ++i) host.push_back(cuda_host::numbers(count, 7 + i));
  for (float& square : host[3]) square *= square;
  const Array<float> p(host[0]), g(host[1]), m(host[2]), v(host[3]);
  step(cuda, p.data(), g.data(), m.data(), with_v ? v.data() : nullptr);
  step(cuda_host::reference(), host[0].data(), host[1].data(), host[2].data(),
       with_v ? host[3].data() : nullptr);
  cuda_host::check_close(p.values(), host[0], 4);
  cuda_host::check_close(m.values(), host[2], 4);
  cuda_host::check_close(v.values(), host[3], 4);
}

}  // namespace

TEST_CASE("SGD: plain, with momentum, dampening, weight decay and Nesterov") {
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{300}})
    for (const bool momentum : {false, true})
      for (const bool nesterov : {false, true}) {
        const SGDStep step{0.1, 0.9, nesterov ? 0 : 0.2, 0.01, nesterov};
        compare(count, momentum, [&](const auto& table, float* p, const float* g, float*, float* v) {
          table.sgd(step, static_cast<std::int64_t>(count), p, g, v);
        });
      }
}

TEST_CASE("Adam: weight decay in the gradient, or decoupled") {
  for (const bool decoupled : {false, true}) {
    const AdamStep step{0.01, 0.9, 0.99, 1e-8, 0.1, decoupled, 1 - 0.9, 1 - 0.99};
    compare(300, true, [&](const auto& table, float* p, const float* g, float* m, float* v) {
      table.adam(step, 300, p, g, m, v);
    });
  }
}
