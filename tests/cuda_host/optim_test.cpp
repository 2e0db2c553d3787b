// SGD and Adam on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include <list>

#include "cuda_host/array.h"
#include "cuda_host/capture.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;

namespace {

/// p, g, m and v of one tensor, here and on the model.
struct Parameter {
  Parameter(std::size_t count, unsigned seed)
      : host{cuda_host::numbers(count, seed), cuda_host::numbers(count, seed + 1),
             cuda_host::numbers(count, seed + 2), cuda_host::numbers(count, seed + 3)},
        p(host[0]),
        g(host[1]),
        m(host[2]),
        v((square(host[3]), host[3])) {}

  static void square(std::vector<float>& values) {
    for (float& value : values) value *= value;
  }

  std::vector<float> host[4];
  Array<float> p, g, m, v;
};

/// Runs `step` with the two tables over tensors of the same numbers and compares all that may change. Returns
/// the number of launches.
template <class Step>
std::uint64_t compare(const std::vector<std::size_t>& counts, bool with_v, const Step& step) {
  FloatKernels<float> cuda{};
  fill_optim_cuda(cuda);
  std::list<Parameter> parameters;
  std::vector<OptimTensor<float>> here, there;
  for (const std::size_t count : counts) {
    Parameter& x = parameters.emplace_back(count, static_cast<unsigned>(7 + 4 * here.size()));
    const auto size = static_cast<std::int64_t>(count);
    here.push_back(
        {size, x.host[0].data(), x.host[1].data(), x.host[2].data(), with_v ? x.host[3].data() : nullptr});
    there.push_back({size, x.p.data(), x.g.data(), x.m.data(), with_v ? x.v.data() : nullptr});
  }
  const std::uint64_t before = cuda_host::activity().launches;
  step(cuda, there);
  const std::uint64_t launches = cuda_host::activity().launches - before;
  step(cuda_host::reference(), here);
  for (const Parameter& x : parameters) {
    cuda_host::check_close(x.p.values(), x.host[0], 4);
    cuda_host::check_close(x.m.values(), x.host[2], 4);
    cuda_host::check_close(x.v.values(), x.host[3], 4);
  }
  return launches;
}

/// 200 tensors of 0 to 6 elements, of which 171 are not empty.
std::vector<std::size_t> many() {
  std::vector<std::size_t> counts;
  for (std::size_t i = 0; i < 200; ++i) counts.push_back(i % 7);
  return counts;
}

}  // namespace

TEST_CASE("SGD: plain, with momentum, dampening, weight decay and Nesterov, for one tensor and for many") {
  for (const bool momentum : {false, true})
    for (const bool nesterov : {false, true}) {
      const SGDStep step{0.1, 0.9, nesterov ? 0 : 0.2, 0.01, nesterov};
      const auto launches = [&](const std::vector<std::size_t>& counts) {
        return compare(counts, momentum, [&](const auto& table, const auto& list) {
          table.sgd(step, std::ssize(list), list.data());
        });
      };
      CHECK(launches({}) == 0);
      CHECK(launches({0}) == 0);
      CHECK(launches({1}) == 1);
      CHECK(launches({300, 0, 1, 2048, 0, 2049, 5000, 7, 0}) == 1);
      CHECK(launches(std::vector<std::size_t>(64, 2)) == 1);
      CHECK(launches(many()) == 3);
    }
}

TEST_CASE("Adam: weight decay in the gradient, or decoupled, for one tensor and for many") {
  for (const bool decoupled : {false, true}) {
    const AdamStep step{0.01, 0.9, 0.99, 1e-8, 0.1, decoupled, 1 - 0.9, 1 - 0.99};
    const auto launches = [&](const std::vector<std::size_t>& counts) {
      return compare(counts, true, [&](const auto& table, const auto& list) {
        table.adam(step, std::ssize(list), list.data());
      });
    };
    CHECK(launches({300}) == 1);
    CHECK(launches({1, 0, 2049, 300}) == 1);
    CHECK(launches(many()) == 3);
  }
}
