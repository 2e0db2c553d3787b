// A Fusion and the three networks: what hooks see, what they change, and that nothing is left behind.
#include "grapnel/engine/fusion.h"

#include <doctest/doctest.h>

#include <cmath>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/eval_scope.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/plan.h"
#include "support/device.h"

using namespace grapnel;

namespace {

struct Net {
  explicit Net(const std::string& name) {
    default_generator() = Generator(3);
    module = nn::make_model(name, {.num_classes = 7, .width = 8});
    Generator generator(4);
    const std::int64_t size = name == "vgg16" ? 32 : 48;
    x = Tensor::randn({2, 3, size, size}, generator);
    // Statistics as after training: a fresh network's zeros and ones would hide mistakes.
    const NoGrad no_grad;
    for (const auto& [path, buffer] : module->named_buffers())
      if (buffer.dtype() == DType::float32) buffer.copy_(Tensor::rand(buffer.shape(), generator) + 0.5);
    module->eval();
  }
  std::shared_ptr<nn::Module> module;
  Tensor x;
};

/// ||a - b|| / ||b||.
double relative(const Tensor& a, const Tensor& b) {
  const NoGrad no_grad;
  const auto p = a.to_vector<double>(), q = b.to_vector<double>();
  REQUIRE(p.size() == q.size());
  double error = 0, size = 0;
  for (std::size_t i = 0; i < p.size(); ++i) error += (p[i] - q[i]) * (p[i] - q[i]), size += q[i] * q[i];
  return std::sqrt(error / std::max(size, 1e-30));
}

constexpr double kLayer = 5e-6, kLogits = 2e-5, kGradient = 1e-5;

using Seen = std::vector<std::pair<std::string, Tensor>>;

/// What a forward hook on each module sees, in the order of the calls.
template <class Run>
Seen watch(nn::Module& net, const Run& run) {
  Seen seen;
  std::vector<ScopedHook> hooks;
  for (const auto& [path, module] : net.named_modules())
    hooks.emplace_back(module->register_forward_hook(
        [&seen, path = path](nn::Module&, const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
          seen.emplace_back(path, outputs[0].detach().clone());
          return std::nullopt;
        }));
  run();
  return seen;
}

/// The gradients that full backward hooks on each module see, in the order of the calls.
template <class Run>
Seen watch_backward(nn::Module& net, const Run& run) {
  Seen seen;
  std::vector<ScopedHook> hooks;
  for (const auto& [path, module] : net.named_modules())
    hooks.emplace_back(module->register_full_backward_hook(
        [&seen, path = path](nn::Module&, const Tensors&,
                             const Tensors& gradients) -> std::optional<Tensors> {
          seen.emplace_back(path, gradients[0].detach().clone());
          return std::nullopt;
        }));
  run();
  return seen;
}

void check_same(const Seen& got, const Seen& want, double allowed) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(want[i].first);
    CHECK(got[i].first == want[i].first);
    CHECK(relative(got[i].second, want[i].second) <= allowed);
  }
}

}  // namespace

TEST_CASE("fusion: logits, the input's gradient and every parameter's" * testing::not_on_model("minutes")) {
  for (const std::string& name : nn::model_names())
    for (const bool training : {false, true}) {
      CAPTURE(name);
      CAPTURE(training);
      const auto gradients = [&](bool fused) {
        Net net(name);
        net.module->train(training);
        default_generator() = Generator(5);  // dropout
        net.x.set_requires_grad();
        std::optional<Fusion> fusion;
        if (fused) fusion.emplace();
        const Tensor logits = (*net.module)(net.x);
        Seen result{{"logits", logits.detach()}};
        cross_entropy(logits, Tensor::zeros({2}, DType::int64)).backward();
        result.emplace_back("input", net.x.grad());
        for (const auto& [path, parameter] : net.module->named_parameters())
          result.emplace_back(path, parameter.grad());
        return result;
      };
      const Seen want = gradients(false), got = gradients(true);
      // In training, batch norm divides by deviations of few values, which enlarges rounding.
      check_same(got, want, training ? 1e-3 : kLogits);
    }
}

TEST_CASE("fusion: a hook on any module, and on all, sees what it sees without" *
          testing::not_on_model("minutes")) {
  for (const std::string& name : nn::model_names()) {
    CAPTURE(name);
    const Net net(name);
    const InferenceMode inference;
    const auto run = [&] { (*net.module)(net.x); };
    const Seen want = watch(*net.module, run);
    const Tensor logits = (*net.module)(net.x);
    const Fusion fusion;
    check_same(watch(*net.module, run), want, kLayer);
    for (const auto& [key, module] : net.module->named_modules()) {
      const std::string& path = key;
      CAPTURE(path);
      Seen seen;
      const ScopedHook hook = module->register_forward_hook(
          [&](nn::Module&, const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
            seen.emplace_back(path, outputs[0]);
            return std::nullopt;
          });
      CHECK(relative((*net.module)(net.x), logits) <= kLogits);
      Seen expected;
      for (const auto& entry : want)
        if (entry.first == path) expected.push_back(entry);
      check_same(seen, expected, kLayer);
    }
  }
}

TEST_CASE("fusion: backward hooks on every module see the same gradients in the same order" *
          testing::not_on_model("minutes")) {
  for (const std::string& name : nn::model_names()) {
    CAPTURE(name);
    const Net net(name);
    const nn::EvalScope frozen(*net.module);
    const auto run = [&] {
      const Tensor x = net.x.detach().set_requires_grad();
      sum(amax((*net.module)(x), {1})).backward();
    };
    const Seen want = watch_backward(*net.module, run);
    const Fusion fusion;
    check_same(watch_backward(*net.module, run), want, kGradient);
  }
}

TEST_CASE("fusion: what a hook returns takes effect on every module, and goes with the hook" *
          testing::not_on_model("minutes")) {
  for (const std::string& name : nn::model_names()) {
    CAPTURE(name);
    const Net net(name);
    const InferenceMode inference;
    const auto memory_of_a_run = [&] {
      const std::size_t before = memory_use().in_use;
      std::size_t most = 0;
      const Fusion fusion;
      const ScopedHook watcher =
          net.module->at(nn::last_layer(name))
              .register_forward_pre_hook([&](nn::Module&, const Tensors&) -> std::optional<Tensors> {
                most = memory_use().in_use - before;
                return std::nullopt;
              });
      (*net.module)(net.x);
      return most;
    };
    const Tensor plain = [&] {
      const Fusion fusion;
      return (*net.module)(net.x);
    }();
    memory_of_a_run();  // the second run keeps the packed weights
    const std::size_t memory = memory_of_a_run();
    for (const auto& [key, module] : net.module->named_modules()) {
      const std::string& path = key;
      CAPTURE(path);
      const auto halve = [](nn::Module&, const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
        return Tensors{outputs[0] * 0.5 + 0.25};
      };
      HookHandle hook = module->register_forward_hook(halve);
      const Tensor want = (*net.module)(net.x);
      {
        const Fusion fusion;
        CHECK(relative((*net.module)(net.x), want) <= kLogits);
      }
      hook.remove();
      const Fusion fusion;
      CHECK((*net.module)(net.x).to_vector<float>() == plain.to_vector<float>());
    }
    CHECK(memory_of_a_run() == memory);
  }
}

TEST_CASE("fusion: where no hook looks, a convolution is not computed apart from what follows it" *
          testing::not_on_model("minutes")) {
  for (const std::string& name : nn::model_names()) {
    CAPTURE(name);
    const Net net(name);
    const InferenceMode inference;
    std::vector<std::weak_ptr<Storage>> made;  // outputs of convolutions and batch norms
    std::vector<ScopedHook> hooks;
    int met = 0;
    for (const auto& [path, module] : net.module->named_modules()) {
      const bool conv = module->type_name() == "Conv2d";
      if (!conv && module->type_name() != "BatchNorm2d") continue;
      hooks.emplace_back(module->register_forward_hook(
          [&, path = path](nn::Module&, const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
            CHECK(outputs[0].storage()->recipe() != nullptr);
            // A shortcut's batch norm is an operand of the addition: it is computed with its own convolution.
            if (path.find("downsample.1") == std::string::npos) made.push_back(outputs[0].storage());
            return std::nullopt;
          }));
      if (!conv) continue;
      hooks.emplace_back(module->register_forward_pre_hook(
          [&](nn::Module&, const Tensors& inputs) -> std::optional<Tensors> {
            if (inputs[0].storage()->recipe() == nullptr) return std::nullopt;
            // The input is still to be computed, so nothing it is made of has been; and nobody can ask any
            // more.
            for (const auto& storage : made) CHECK(storage.expired());
            made.clear();
            ++met;
            return std::nullopt;
          }));
    }
    const Fusion fusion;
    (*net.module)(net.x);
    // All but the very first and those of a shortcut, which read what others read too. A pool waits as well.
    CHECK(met == (name == "resnet18" ? 8 + 8 : name == "resnet34" ? 16 + 16 : 8 + 4));
  }
}

TEST_CASE("plan: the network's answers, for any shape, with its hooks" * testing::not_on_model("minutes")) {
  for (const std::string& name : nn::model_names()) {
    CAPTURE(name);
    const Net net(name);
    const Plan ask = plan(net.module, net.x);
    const auto eager = [&](const Tensor& x) {
      const NoGrad no_grad;
      return (*net.module)(x);
    };
    CHECK(relative(ask(net.x), eager(net.x)) <= kLogits);
    CHECK_FALSE(ask(net.x).requires_grad());
    const Tensor one = narrow(net.x, 0, 0, 1);
    CHECK(relative(ask(one), eager(one)) <= kLogits);

    int calls = 0;
    const ScopedHook hook = net.module->named_children().front().second->register_forward_hook(
        [&](nn::Module&, const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
          ++calls;
          return Tensors{outputs[0] * 0.5};
        });
    CHECK(relative(ask(net.x), eager(net.x)) <= kLogits);
    CHECK(calls == 2);
  }
}

TEST_CASE("plan: refuses a network in training mode") {
  const Net net("resnet18");
  net.module->train();
  CHECK_THROWS_WITH_AS(plan(net.module, net.x),
                       "plan: the network (ResNet) is in training mode; call eval() first", Error);
}
