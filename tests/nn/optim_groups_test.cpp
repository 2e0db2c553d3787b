// Optimizers with groups: trajectories against PyTorch (golden/make_optimizers.py), and their saved state.
#include <cmath>
#include <memory>
#include <sstream>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/kernels/kernels.h"
#include "grapnel/nn/adam.h"
#include "grapnel/nn/sgd.h"
#include "nn/any_hook.h"
#include "nn/scenario.h"
#include "support/device.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::SGD;

namespace {

Tensor parameter(std::initializer_list<double> values, DType type = finest_type()) {
  return Tensor::from<double>(values, {static_cast<std::int64_t>(values.size())})
      .to(type)
      .set_requires_grad();
}

const std::vector<nn::SGDOptions> kSGD{{.lr = 0.1, .momentum = 0.9},
                                       {.lr = 0.02, .momentum = 0.5, .dampening = 0.25, .weight_decay = 0.3}};
const std::vector<nn::AdamOptions> kAdam{
    {.lr = 0.1}, {.lr = 0.02, .betas = {0.8, 0.95}, .eps = 1e-3, .weight_decay = 0.3}};

/// Ten steps with two groups, as make_optimizers.py makes them; the second rests in the second step.
template <class Made, class Options>
void check_trajectory(const std::string& name, const std::vector<Options>& options) {
  for (const DType type : float_types()) {
    const std::string section = name + (type == DType::float32 ? " float32" : " float64");
    CAPTURE(section);
    const Tensors parameters{parameter({0.5, -1}, type), parameter({2, 1.5, 0.25}, type)};
    Made optimizer({{{parameters[0]}, options[0]}, {{parameters[1]}, options[1]}});
    const auto expected = scenario_lines("optimizers.txt", section);
    REQUIRE(expected.size() == 10);
    for (std::size_t step = 0; step < expected.size(); ++step) {
      optimizer.zero_grad();
      for (std::size_t i = 0; i < (step == 1 ? 1 : 2); ++i) {
        const Tensor p = parameters[i].detach();
        parameters[i].set_grad(p * p - 3);
      }
      optimizer.step();
      std::istringstream line(expected[step]);
      for (const Tensor& p : parameters)
        for (const double value : p.to_vector<double>()) {
          double wanted = 0;
          line >> wanted;
          // Ten steps of some ten roundings, each of a value not above 3.
          CHECK(std::abs(value - wanted) <= 32 * epsilon(type));
        }
    }
  }
}

/// Four steps at once, and four with the state carried to a new optimizer in the middle, as vectors.
template <class Made, class Options>
void check_resumed(const std::vector<Options>& options) {
  const auto train = [&](bool interrupted) {
    const Tensors parameters{parameter({0.5, -1}), parameter({2, 1.5, 0.25}), parameter({7})};
    const auto make = [&] {
      return std::make_unique<Made>(
          typename Made::Groups{{{parameters[0]}, options[0]}, {{parameters[1], parameters[2]}, options[1]}});
    };
    auto optimizer = make();
    optimizer->set_lr(1, 0.07);
    for (int step = 0; step < 4; ++step) {
      for (std::size_t i = 0; i < 2; ++i) {  // the last one never gets a gradient
        const Tensor p = parameters[i].detach();
        parameters[i].set_grad(p * p - 3);
      }
      optimizer->step();
      if (!interrupted || step != 1) continue;
      auto next = make();
      next->load_state(optimizer->state());
      for (const auto& [key, tensor] : optimizer->state()) tensor.zero_();  // what was loaded is a copy
      optimizer = std::move(next);
    }
    CHECK(optimizer->lr(1) == 0.07);
    CHECK(optimizer->initial_lr(1) == options[1].lr);
    std::vector<double> values = parameters[0].to_vector<double>();
    for (const double value : parameters[1].to_vector<double>()) values.push_back(value);
    return values;
  };
  CHECK(train(true) == train(false));
}

}  // namespace

TEST_CASE("Optimizer: two groups step as PyTorch's") {
  check_trajectory<SGD>("SGD", kSGD);
  check_trajectory<nn::Adam>("Adam", kAdam);
  check_trajectory<nn::AdamW>("AdamW", kAdam);
}

TEST_CASE("Optimizer: a loaded state goes on with the same bits") {
  check_resumed<SGD>(kSGD);
  check_resumed<nn::Adam>(kAdam);
  check_resumed<nn::AdamW>(kAdam);
}

TEST_CASE("Optimizer: a state that does not fit is refused as a whole" * on_cpu_only("float64")) {
  const Tensor p = parameter({1, 2}), q = parameter({1});
  p.set_grad(Tensor::ones({2}, p.dtype()));
  SGD optimizer({p, q}, {.lr = 0.5, .momentum = 0.9});
  optimizer.step();
  const nn::NamedTensors good = optimizer.state();
  std::vector<std::string> names;
  for (const auto& entry : good) names.push_back(entry.first);
  CHECK(names == std::vector<std::string>{"lr.0", "initial_lr.0", "step.0", "velocity.0"});
  const auto refusal = [&](nn::NamedTensors state) {
    const std::string start = "Optimizer::load_state: the state belongs to other parameters or settings: ";
    optimizer.set_lr(0, 0.25);
    const std::string message = message_of<NameError>([&] { optimizer.load_state(state); });
    CHECK(optimizer.lr() == 0.25);
    CHECK(optimizer.state()[3].second.to_vector<double>() == std::vector<double>{1, 1});
    REQUIRE(message.starts_with(start));
    return message.substr(start.size());
  };
  nn::NamedTensors state = good;
  state.erase(state.begin() + 3);
  state.emplace_back("step.2", Tensor::ones({}, DType::int64));
  CHECK(refusal(state) == "velocity.0 is missing, step.2 is unexpected");
  state = good;
  state[3].second = Tensor::ones({3}, DType::float64);
  CHECK(refusal(state) == "velocity.0 is float64 (3,) instead of float64 (2,)");
  state[3].second = Tensor::ones({2});
  CHECK(refusal(state) == "velocity.0 is float32 (2,) instead of float64 (2,)");
  state[3].second = {};
  CHECK(refusal(state) == "velocity.0 is unset instead of float64 (2,)");
  state = good;
  state.push_back(state[0]);
  CHECK(refusal(state) == "lr.0 is there twice");
  CHECK(refusal({}) == "lr.0 is missing, initial_lr.0 is missing");
  optimizer.load_state(good);
  CHECK(optimizer.lr() == 0.5);
}

TEST_CASE("Optimizer: parameters of any strides, and any number of threads, step alike" *
          on_cpu_only("threads of the CPU")) {
  Generator generator(3);
  const Tensor start = Tensor::randn({64, 32, 9, 11}, generator);
  const Tensor gradient = Tensor::randn({64, 32, 9, 11}, generator);
  const auto train = [&](MemoryFormat format, MemoryFormat gradient_format, int threads) {
    kernels::set_num_threads(threads);
    const Tensor p = start.contiguous(format).clone().set_requires_grad();
    p.set_grad(gradient.contiguous(gradient_format));
    SGD sgd({p}, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true});
    nn::AdamW adam({p}, {.lr = 0.1});
    for (int i = 0; i < 2; ++i) {
      const auto version = p.version();
      sgd.step();
      CHECK(p.version() > version);
      adam.step();
    }
    kernels::set_num_threads(0);
    return p.to_vector<float>();
  };
  const auto expected = train(MemoryFormat::contiguous, MemoryFormat::contiguous, 1);
  CHECK(expected != start.to_vector<float>());
  CHECK(train(MemoryFormat::contiguous, MemoryFormat::contiguous, 3) == expected);
  CHECK(train(MemoryFormat::channels_last, MemoryFormat::contiguous, 1) == expected);
  CHECK(train(MemoryFormat::contiguous, MemoryFormat::channels_last, 1) == expected);
}

TEST_CASE("Optimizer: groups have their own settings") {
  const Tensor a = leaf(3), b = leaf(5);
  for (const Tensor& p : {a, b}) p.set_grad(Tensor::ones({1}));
  SGD optimizer({{{a}, {.lr = 1}}, {{b}, {.lr = 0.5}}});
  CHECK(optimizer.group_count() == 2);
  CHECK(optimizer.parameters().size() == 2);
  optimizer.step();
  CHECK(a.item() == 2);
  CHECK(b.item() == 4.5);
  optimizer.set_lr(1, 2);
  CHECK(optimizer.lr(1) == 2);
  CHECK(optimizer.initial_lr(1) == 0.5);
  optimizer.options(0).weight_decay = 0.5;
  optimizer.step();
  CHECK(a.item() == 0);
  CHECK(b.item() == 2.5);
  CHECK(message_of<NameError>([&] { optimizer.set_lr(2, 1); }) ==
        "Optimizer: no group 2; there are 2, counted from 0");
  CHECK(message_of<NameError>([&] { (void)optimizer.initial_lr(2); }) ==
        "Optimizer: no group 2; there are 2, counted from 0");
}
