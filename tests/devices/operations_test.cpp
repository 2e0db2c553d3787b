// Every operation of the engine on a CUDA device, with its first and second derivatives, against float64 on
// the CPU. Runs as engine_test.cpp does.
#include "support/operations.h"

#include <doctest/doctest.h>

#include "devices/device_testing.h"
#include "grapnel/engine/backward.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;
using namespace grapnel::testing;

namespace {

/// The same values in another type and place, leaves that need a gradient where they did.
Tensors moved(const Tensors& inputs, DType type, Device device) {
  Tensors result;
  for (const Tensor& x : inputs) {
    result.push_back((is_floating(x.dtype()) ? x.detach().to(type) : x).to(device));
    if (x.requires_grad()) result.back() = result.back().detach().set_requires_grad();
  }
  return result;
}

/// Irregular numbers as a tensor is: the same for the same shape.
Tensor numbers_like(const Tensor& x) {
  Generator generator(static_cast<std::uint64_t>(x.numel()) + 99);
  return (Tensor::rand(x.shape(), generator, DType::float32, Device::cpu()) + 0.5)
      .to(x.dtype())
      .to(x.device());
}

/// y, d(y v)/dx, and the derivatives of a sum of those by x and v.
Tensors derivatives(const Operation& operation, const Tensors& inputs) {
  const Tensor y = operation.f(inputs);
  Tensors results{y.detach()};
  if (!y.requires_grad()) return results;
  Tensors wanted;
  for (const Tensor& x : inputs)
    if (x.requires_grad()) wanted.push_back(x);
  const Tensor v = numbers_like(y).set_requires_grad();
  Tensor total = sum(v);
  for (const Tensor& gradient : grad({y}, wanted, {v}, {.create_graph = true, .allow_unused = true})) {
    results.push_back(gradient);
    if (gradient.defined()) total = total + sum(gradient * numbers_like(gradient));
  }
  wanted.push_back(v);
  for (const Tensor& second : grad({total}, wanted, {}, {.allow_unused = true})) results.push_back(second);
  return results;
}

}  // namespace

TEST_CASE("every operation on a device, with first and second derivatives, as in float64 on the CPU") {
  NEEDS_DEVICE();
  for (const auto& [group, operations] : operation_groups())
    for (const Operation& operation : operations) {
      CAPTURE(group);
      CAPTURE(operation.name);
      const Tensors inputs = moved(operation.inputs, DType::float32, Device::cpu());
      const Tensors expected = derivatives(operation, moved(inputs, DType::float64, Device::cpu()));
      const Tensors got = derivatives(operation, moved(inputs, DType::float32, kCuda));
      REQUIRE(got.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        REQUIRE(got[i].defined() == expected[i].defined());
        if (!got[i].defined()) continue;
        CHECK(got[i].device() == kCuda);
        // Some tens of roundings of 2^-24 each.
        CHECK(distance(got[i], expected[i]) < 2e-6);
      }
    }
}
