// The engine on the model of a Hopper: which weights it packs, and how.
#include <doctest/doctest.h>

#include <map>

#include "cuda_host/precisions.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;
using namespace grapnel::cuda_host;

TEST_CASE("Hopper, engine: each way to multiply has packed weights of its own, whatever came before") {
  const WithHopper hopper;
  Generator generator(1);
  const Tensor x = Tensor::randn({1, 32, 5, 6}, generator), w = Tensor::randn({40, 32, 3, 3}, generator);
  const Tensor there = x.to(Device::cuda()), weight = w.to(Device::cuda());
  const Conv2dOptions options{.padding = {1, 1}};
  const std::vector<double> exact =
      conv2d(x.to(DType::float64), w.to(DType::float64), {}, options).to_vector<double>();
  std::map<Precision, std::vector<float>> first;
  for (int turn = 0; turn < 3; ++turn)
    in_every_precision([&](Precision precision) {
      const std::uint64_t before = tensor_maps_made;
      const std::vector<float> y = conv2d(there, weight, {}, options).to_vector<float>();
      CHECK(tensor_maps_made > before);
      const auto& same = first.emplace(precision, y).first->second;
      CHECK(y == same);
      double worst = 0;
      for (std::size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::abs(y[i] - exact[i]));
      // Of 288 terms of about 1, each with an error of less than 2^-11 or 2^-8 twice.
      CHECK(worst < (precision == Precision::fp32 ? 1e-4 : precision == Precision::tf32 ? 0.04 : 0.3));
      CHECK(worst > (precision == Precision::fp32 ? 0 : precision == Precision::tf32 ? 1e-4 : 0.04));
    });
}
