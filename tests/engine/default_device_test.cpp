// Where tensors are made when nobody names a device.
#include <doctest/doctest.h>

#include <functional>
#include <thread>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;

TEST_CASE("factories make tensors on the default device, others where their operands are") {
  const Device device = default_device();
  Generator generator(1);
  const Tensors made{Tensor::empty({2}),
                     Tensor::full({2}, 3),
                     Tensor::scalar(1),
                     Tensor::arange(3),
                     Tensor::randn({2}, generator),
                     Tensor::rand({2}, generator),
                     Tensor::from<float>({1, 2}, {2})};
  for (const Tensor& x : made) CHECK(x.device() == device);
  float outside[] = {1, 2};
  CHECK(Tensor::from_blob(outside, {2}, {1}, DType::float32).device() == Device::cpu());
  const Tensor here = Tensor::ones({2}, DType::float32, Device::cpu());
  CHECK((here * 2).device() == Device::cpu());
  CHECK(here.new_zeros({2}).device() == Device::cpu());
  CHECK(sum(Tensor::from<float>({1, 2}, {2}) * made[1]).item() == 9);
  CHECK(made[3].to_vector<float>() == std::vector<float>{0, 1, 2});
}

TEST_CASE("random numbers are those of the CPU, wherever they go") {
  Generator here(5), there(5);
  const Tensor x = Tensor::randn({100}, here, DType::float32, Device::cpu());
  CHECK(Tensor::randn({100}, there).to_vector<float>() == x.to_vector<float>());
  const Tensor ones = Tensor::ones({100});
  CHECK(dropout(ones, 0.3, true, there).to_vector<float>() ==
        dropout(ones.to(Device::cpu()), 0.3, true, here).to_vector<float>());
}

TEST_CASE("a default device holds for a scope, and for one thread") {
  const Device before = default_device();
  {
    const DefaultDevice outer(Device::cpu());
    {
      const DefaultDevice inner(before);
      CHECK(default_device() == before);
      Device elsewhere = before;
      std::thread([&] { elsewhere = default_device(); }).join();
      CHECK(elsewhere == Device::cpu());
    }
    CHECK(default_device() == Device::cpu());
    CHECK(Tensor::ones({1}).device() == Device::cpu());
  }
  CHECK(default_device() == before);
  CHECK_THROWS_AS(DefaultDevice(Device::cuda(cuda_device_count())), DeviceError);
  CHECK(default_device() == before);
}

TEST_CASE("a pass that goes on in another thread keeps the default device") {
  const Tensor x = Tensor::ones({1}).set_requires_grad();
  std::vector<Device> seen;
  // Every level is a pass within the one before; every 32 levels the engine goes on in a new thread.
  const std::function<Tensor(int)> nested = [&](int level) {
    return record("nested", x.detach() * 1.0, {x}, {}, [&, level](const Backward& ctx) -> Tensors {
      seen.push_back(Tensor::ones({1}).device());
      const GradMode recording(true);
      if (level > 0) grad({nested(level - 1)}, {x});
      return {ctx.grad()};
    });
  };
  grad({nested(40)}, {x});
  CHECK(seen == std::vector<Device>(41, default_device()));
}
