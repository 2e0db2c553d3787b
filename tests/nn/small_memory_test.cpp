// What answering or training with a network costs in memory once it has been done before: nothing new, not
// even small objects.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>

#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/plan.h"
#include "grapnel/nn/sgd.h"
#include "support/device.h"

// With sanitizers nothing is kept for later, so that they see every use of what was freed.
#ifndef GRAPNEL_SANITIZED
namespace {

std::atomic<long> requests{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  ++requests;
  void* block = alignment > alignof(std::max_align_t)
                    ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                    : std::malloc(bytes);
  if (!block) throw std::bad_alloc();
  return block;
}

}  // namespace

// Every form that the library uses ends in one of these.
void* operator new(std::size_t bytes) {
  return counted(bytes, 0);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* block) noexcept {
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept {
  std::free(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
  std::free(block);
}
void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
  std::free(block);
}

using namespace grapnel;

TEST_CASE("inference asks for no memory after the second run" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  for (const char* model : {"resnet18", "resnet34", "vgg16"})
    for (const bool fused : {true, false}) {
      CAPTURE(model);
      CAPTURE(fused);
      Generator generator(3);
      const auto net = nn::make_model(model, {.num_classes = 10, .width = 8, .inplace = true});
      net->eval();
      const Tensor x = Tensor::randn({1, 3, 64, 64}, generator);
      const InferenceMode inference;
      const auto run = [&] {
        std::optional<Fusion> fusion;
        if (fused) fusion.emplace();
        const Tensor y = (*net)(x);
        return y.data<float>()[0];
      };
      const float first = run();
      run();  // keeps the packed weights
      const long before = requests;
      float last = 0;
      for (int i = 0; i < 3; ++i) last = run();
      CHECK(requests - before == 0);
      CHECK(last == first);
    }
}

TEST_CASE("a plan asks for no memory from its first answer on" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  Generator generator(3);
  const auto net = nn::make_model("resnet18", {.num_classes = 10, .width = 8});
  net->eval();
  const Tensor x = Tensor::randn({1, 3, 64, 64}, generator);
  const Plan ask = plan(net, x);
  const long before = requests;
  for (int i = 0; i < 3; ++i) ask(x);
  CHECK(requests - before == 0);
}

TEST_CASE("a training step asks for no memory after the second one" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  for (const char* model : {"resnet18", "resnet34", "vgg16"})
    for (const bool fused : {true, false}) {
      CAPTURE(model);
      CAPTURE(fused);
      Generator generator(3);
      const auto net = nn::make_model(model, {.num_classes = 10, .width = 8});
      nn::SGD optimizer(net->parameters(), {.lr = 1e-3, .momentum = 0.9});
      const Tensor x = Tensor::randn({2, 3, 64, 64}, generator);
      const Tensor labels = Tensor::full({2}, 1, DType::int64);
      const auto step = [&] {
        std::optional<Fusion> fusion;
        if (fused) fusion.emplace();
        optimizer.zero_grad();
        const Tensor loss = cross_entropy((*net)(x), labels);
        loss.backward();
        optimizer.step();
        return loss.item();
      };
      const double first = step();
      step();
      const long before = requests;
      double last = 0;
      for (int i = 0; i < 3; ++i) last = step();
      CHECK(requests - before == 0);
      CHECK(last < first);
    }
}
#endif
