// Labels and indices that are out of range on a CUDA device: nobody waits for the check, and the next wait
// tells. Runs as engine_test.cpp does.
#include <doctest/doctest.h>

#include <cmath>

#include "devices/device_testing.h"
#include "grapnel/engine/backward.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;
using namespace grapnel::testing;

namespace {

Tensor index_of(std::initializer_list<std::int64_t> values) {
  return Tensor::from<std::int64_t>(values, {static_cast<std::int64_t>(values.size())}).to(kCuda);
}

/// What the next wait for the device says.
std::string complaint() {
  try {
    synchronize(kCuda);
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("an index out of range on a device is a DeviceError of the next wait") {
  NEEDS_DEVICE();
  const Tensor scores = Tensor::ones({3, 4}).to(kCuda);
  const auto check = [](const char* expected, const std::function<Tensor()>& operation) {
    CAPTURE(expected);
    const Tensor y = operation();
    CHECK(complaint() == std::string("synchronize: ") + expected);
    CHECK(complaint() == "");
    return y;
  };
  const auto loss = check("cross_entropy: index 4 is outside 0..3", [&] {
    return cross_entropy(scores, index_of({0, 4, -1}));
  });
  CHECK(std::isnan(loss.item()));
  check("nll_loss: index -1 is outside 0..3", [&] { return nll_loss(scores, index_of({-1, 0, 9})); });
  const auto rows = check("index_select: index 3 is outside 0..2", [&] {
    return index_select(scores, 0, index_of({1, 3}));
  });
  CHECK(rows.to_vector<float>()[3] == 1);
  CHECK(std::isnan(rows.to_vector<float>()[4]));
  const auto sums = check("index_add: index 5 is outside 0..4", [&] {
    return index_add(5, 0, index_of({5, 1, 1}), scores);
  });
  CHECK(sum(sums).item() == 8);
  check("gather: index 7 is outside 0..3", [&] {
    return gather(scores, 1, reshape(index_of({0, 7, 7}), {3, 1}));
  });
  check("scatter_add: index -2 is outside 0..1", [&] {
    return scatter_add(2, 1, reshape(index_of({0, -2, 1}), {3, 1}), narrow(scores, 1, 0, 1));
  });

  // A copy to the CPU waits too. Of several the first is told.
  cross_entropy(scores, index_of({0, 8, 1}));
  index_select(scores, 0, index_of({9}));
  CHECK_THROWS_WITH_AS(scores.to_vector<float>(), "copy: cross_entropy: index 8 is outside 0..3",
                       DeviceError);
  CHECK(scores.to_vector<float>()[0] == 1);
  CHECK(cross_entropy(scores, index_of({0, 1, 3})).item() == doctest::Approx(std::log(4)));
}
