// A device without memory left: who asked is told, and everything goes on.
#include "cuda_host/memory.h"

#include <doctest/doctest.h>

#include "cuda_host/faults.h"
#include "grapnel/engine/device_graph.h"
#include "grapnel/engine/error.h"
#include "grapnel/engine/ops.h"

using namespace grapnel;
using cuda_host::LimitMemory, cuda_host::check_has;

namespace {

Tensor ones(const Shape& shape) {
  return Tensor::ones(shape, DType::float32, Device::cuda());
}

/// What `work` complains of; nothing if it ends.
std::string complaint(const std::function<void()>& work) {
  try {
    work();
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

/// All complaints of `work` until it ends, each time with the memory it asked for before.
std::vector<std::string> complaints(const std::function<void()>& work) {
  std::vector<std::string> all;
  for (std::size_t bytes = 0; all.size() < 10;) {
    const LimitMemory limit(bytes);
    const std::string next = complaint(work);
    if (next.empty()) break;
    const std::size_t end = next.find(" bytes were asked for");
    REQUIRE(end != std::string::npos);
    bytes += std::stoul(next.substr(next.rfind(' ', end - 1) + 1));
    all.push_back(next);
  }
  return all;
}

// Two sums of 4096 elements each: the result takes less than the parts, of which fold (reduce/cuda.cu) has
// eight doubles for each sum.
const Shape kTall{4096, 2};
std::vector<float> sums(const Tensor& x) {
  return sum(x, {0}).to_vector<float>();
}

}  // namespace

TEST_CASE("memory: there is as much as the limit leaves, and all of it again without") {
  const LimitMemory limit(1000);
  void* const first = cuda_host::allocate(600);
  REQUIRE(first);
  CHECK_FALSE(cuda_host::allocate(401));
  void* const second = cuda_host::allocate(400);
  CHECK(second);
  cuda_host::release(first);
  {
    const LimitMemory less(500);
    CHECK_FALSE(cuda_host::allocate(501));
  }
  void* const third = cuda_host::allocate(600);
  CHECK(third);
  CHECK_FALSE(cuda_host::allocate(1));
  cuda_host::release(second);
  cuda_host::release(third);
}

TEST_CASE("memory: a tensor that does not fit names device and bytes, and the next one that does is fine") {
  const Tensor x = ones({100});
  {
    const LimitMemory limit(1000);
    const std::string told = complaint([&] { ones({300}); });
    check_has(told, "cuda:0 is out of memory: 1200 bytes were asked for");
    check_has(complaint([&] { Tensor::ones({300}).to(Device::cuda()); }), "1200 bytes were asked for");
    check_has(complaint([&] { (x + ones({3, 100})).to_vector<float>(); }), "1200 bytes were asked for");
    CHECK((x + x).to_vector<float>() == std::vector<float>(100, 2));
  }
  CHECK((x + ones({3, 100})).to_vector<float>() == std::vector<float>(300, 2));
}

TEST_CASE("memory: an operation without room for its workspace says so") {
  const Tensor x = ones(kTall);
  std::vector<float> answer;
  const auto told = complaints([&] { answer = sums(x); });
  CHECK(answer == std::vector<float>{4096, 4096});
  REQUIRE(told.size() == 2);
  check_has(told[0], "cuda:0 is out of memory: 8 bytes were asked for");
  check_has(told[1], "sum: cuda:0 is out of memory: ");
  check_has(told[1], " bytes were asked for");
  CHECK(sums(x) == std::vector<float>{4096, 4096});
}

TEST_CASE("memory: a graph whose rehearsal has no room is none, and the next is") {
  const Tensor x = ones(kTall);
  std::unique_ptr<DeviceGraph> graph;
  const auto told =
      complaints([&] { graph = std::make_unique<DeviceGraph>(x.device(), [&] { return sum(x * 2, {0}); }); });
  REQUIRE(told.size() == 3);  // the product, the result, the parts
  check_has(told[0], "cuda:0 is out of memory: 32768 bytes were asked for");
  check_has(told[2], ": cuda:0 is out of memory: ");
  graph->replay();
  CHECK(graph->result().to_vector<float>() == std::vector<float>{8192, 8192});
  CHECK(sums(x) == std::vector<float>{4096, 4096});
}
