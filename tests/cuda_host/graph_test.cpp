// Plans as graphs, on the model of a GPU: captured once, replayed, and never in a hook's way.
#include <doctest/doctest.h>

#include "cuda_host/capture.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/layers.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/plan.h"

using namespace grapnel;

namespace {

/// What the model did since it was made, or last asked.
class Since {
 public:
  cuda_host::Activity ask() {
    const cuda_host::Activity now = cuda_host::activity(), before = std::exchange(last_, now);
    return {now.launches - before.launches, now.allocations - before.allocations,
            now.captures - before.captures, now.replays - before.replays};
  }

 private:
  cuda_host::Activity last_ = cuda_host::activity();
};

/// Convolution, batch norm, ReLU, convolution, pool, linear: modules "0" to "6" of x (N,3,6,6).
std::shared_ptr<nn::Sequential> small_net() {
  default_generator() = Generator(3);
  const auto net = std::make_shared<nn::Sequential>(std::vector<std::shared_ptr<nn::Module>>{
      std::make_shared<nn::Conv2d>(3, 4, std::pair{3, 3}, Conv2dOptions{.padding = {1, 1}}),
      std::make_shared<nn::BatchNorm2d>(4), std::make_shared<nn::ReLU>(),
      std::make_shared<nn::Conv2d>(4, 4, std::pair{3, 3}, Conv2dOptions{.stride = {2, 2}}),
      std::make_shared<nn::AdaptiveAvgPool2d>(1, 1), std::make_shared<nn::Flatten>(),
      std::make_shared<nn::Linear>(4, 5)});
  net->eval();
  net->to(Device::cuda());
  return net;
}

Tensor picture(std::uint64_t seed, const Shape& shape = {1, 3, 6, 6}) {
  Generator generator(seed);
  return Tensor::randn(shape, generator).to(Device::cuda());
}

/// The answer without a plan, layers computed together as there.
std::vector<float> expected(nn::Module& net, const Tensor& x) {
  const InferenceMode inference;
  const Fusion fusion;
  return net(x).to_vector<float>();
}

/// A module of one operation.
class Custom : public nn::Module {
 public:
  explicit Custom(std::function<Tensor(const Tensor&)> f) : f_(std::move(f)) { eval(); }
  std::string type_name() const override { return "Custom"; }

 protected:
  Tensor forward(const Tensor& x) override { return f_(x); }

 private:
  std::function<Tensor(const Tensor&)> f_;
};

}  // namespace

TEST_CASE("a plan on a device is captured once and replayed, with the network's own answers") {
  const auto net = small_net();
  Since since;
  const Plan ask = plan(net, picture(1));
  CHECK(since.ask().captures == 1);
  const Tensor first = ask(picture(2));
  const std::vector<float> kept = first.to_vector<float>();
  CHECK(kept == expected(*net, picture(2)));
  for (const std::uint64_t seed : {3, 4}) {
    const Tensor x = picture(seed);
    since.ask();
    const Tensor y = ask(x);
    const auto did = since.ask();
    CHECK(did.captures == 0);
    CHECK(did.replays == 1);
    CHECK(did.allocations == 1);  // the answer
    CHECK(y.to_vector<float>() == expected(*net, x));
    CHECK_FALSE(y.requires_grad());
  }
  CHECK(first.to_vector<float>() == kept);
}

#ifndef GRAPNEL_SANITIZED  // on the model, a minute
TEST_CASE("a whole network is one graph") {
  const auto net = nn::make_model("resnet18", {.num_classes = 5, .width = 2});
  net->eval();
  net->to(Device::cuda());
  const Plan ask = plan(net, picture(1, {1, 3, 16, 16}));
  const Tensor x = picture(2, {1, 3, 16, 16});
  Since since;
  const Tensor y = ask(x);
  CHECK(since.ask().replays == 1);
  CHECK(y.to_vector<float>() == expected(*net, x));
}
#endif

TEST_CASE("a hook is called with the values of the network itself, without it the graph answers again") {
  const auto net = small_net();
  const Plan ask = plan(net, picture(1));
  const Tensor x = picture(2);
  const auto look = [&](const auto& registered) {
    std::vector<float> seen;
    Since since;
    HookHandle hook = registered([&seen](nn::Module&, const Tensors&, const Tensors& outputs) {
      seen = outputs[0].to_vector<float>();
      return std::optional(Tensors{outputs[0] * 2});
    });
    const std::vector<float> answer = ask(x).to_vector<float>(), again = expected(*net, x);
    CHECK(since.ask().replays == 0);
    CHECK(answer == again);
    hook.remove();
    CHECK(ask(x).to_vector<float>() == expected(*net, x));
    const auto did = since.ask();
    CHECK(did.replays == 1);
    CHECK(did.captures == 0);
    return seen;
  };
  std::vector<float> values;
  const Tensor plain = ask(x);
  CHECK(look([&](const auto& hook) { return net->register_forward_hook(hook); }) == plain.to_vector<float>());
  CHECK(look([&](const auto& hook) { return net->at("1").register_forward_hook(hook); }).size() == 4 * 6 * 6);
  CHECK(look([&](const auto& hook) { return nn::register_global_forward_hook(hook); }).size() == 5);

  int met = 0;
  const ScopedHook before = net->at("6").register_forward_pre_hook([&](nn::Module&, const Tensors&) {
    ++met;
    return std::nullopt;
  });
  CHECK(ask(x).to_vector<float>() == plain.to_vector<float>());
  CHECK(met == 1);
}

TEST_CASE("other weights, another precision or device: captured again, and never an old answer") {
  const auto net = small_net();
  const Plan ask = plan(net, picture(1));
  const Tensor x = picture(2);
  std::vector<float> last = ask(x).to_vector<float>();
  const auto check_changed = [&] {
    Since since;
    for (int i = 0; i < 3; ++i) CHECK(ask(x).to_vector<float>() == expected(*net, x));
    CHECK(since.ask().captures == 1);
    CHECK(std::exchange(last, ask(x).to_vector<float>()) != last);
    CHECK(since.ask().replays == 1);
  };
  const NoGrad no_grad;
  const Tensor weight = net->at("3").parameters()[0];
  SUBCASE("in place") {
    weight.copy_(weight * 1.5);
    check_changed();
  }
  SUBCASE("other data") {
    weight.set_data(weight.detach() * 1.5);
    check_changed();
  }
  SUBCASE("a buffer") {
    for (const auto& [name, buffer] : net->named_buffers())
      if (name == "1.running_mean") buffer.fill_(0.25);
    check_changed();
  }
  SUBCASE("one more module") {
    net->push_back(std::make_shared<nn::ReLU>());
    net->eval();
    check_changed();
  }
  SUBCASE("a precision of products") {
    set_precision(Precision::bf16);
    check_changed();
    set_precision(Precision::fp32);
    check_changed();
  }
  SUBCASE("there and back") {
    net->to(Device::cpu());
    CHECK_THROWS_AS(ask(x), DeviceError);
    CHECK(ask(x.to(Device::cpu())).device() == Device::cpu());
    net->to(Device::cuda());
    CHECK(ask(x).to_vector<float>() == last);
  }
}

TEST_CASE("each shape of the input has a graph, of many, the last ones") {
  const auto net = std::make_shared<Custom>([](const Tensor& x) { return relu(x) * x; });
  const Plan ask = plan(net, picture(1, {1, 2, 3, 3}));
  Since since;
  const auto captures = [&](const Shape& shape) {
    for (const std::uint64_t seed : {1, 2, 3, 4}) {
      const Tensor x = picture(seed, shape);
      CHECK(ask(x).to_vector<float>() == expected(*net, x));
    }
    return since.ask().captures;
  };
  CHECK(captures({1, 2, 3, 3}) == 0);
  CHECK(captures({2, 2, 3, 3}) == 1);
  CHECK(captures({1, 2, 3, 3}) == 0);
  const Tensor channels_last = picture(5, {2, 2, 3, 3}).contiguous(MemoryFormat::channels_last);
  CHECK(ask(channels_last).strides() == channels_last.strides());
  for (std::int64_t n = 3; n < 10; ++n) CHECK(captures({n, 2, 3, 3}) == 1);
  CHECK(captures({1, 2, 3, 3}) == 1);
  CHECK(captures({9, 2, 3, 3}) == 0);
}

TEST_CASE("what cannot be captured runs as it does without a graph, for good") {
  Tensor kept;
  int calls = 0;
  const std::pair<const char*, std::function<Tensor(const Tensor&)>> nets[] = {
      {"waits for a value", [](const Tensor& x) { return x * sum(x).item(); }},
      {"goes by the CPU", [](const Tensor& x) { return (x.to(Device::cpu()) * 2).to(x.device()); }},
      {"brings a value", [](const Tensor& x) { return x + x.new_ones(x.shape()); }},
      {"keeps a tensor",
       [&](const Tensor& x) {
         kept = x * 3;
         return kept + 1;
       }},
      {"changes its input",
       [](const Tensor& x) {
         relu_(x);
         return x * 2;
       }},
      {"is never the same",
       [&](const Tensor& x) {
         Tensor y = x * 2;
         for (int i = 0; i < calls; ++i) y = y * 1;
         ++calls;
         return y;
       }},
      {"waits in the middle",
       [](const Tensor& x) {
         synchronize(x.device());
         return x * 2;
       }},
  };
  for (const auto& [name, f] : nets) {
    CAPTURE(name);
    const auto net = std::make_shared<Custom>(f);
    const Plan ask = plan(net, picture(1, {2, 3}));
    Since since;
    for (const std::uint64_t seed : {2, 3, 4, 5}) {
      const Tensor x = picture(seed, {2, 3}), same = x.clone();
      const std::vector<float> answer = ask(x).to_vector<float>();
      CHECK(answer == expected(*net, same));
      CHECK(x.to_vector<float>() == same.to_vector<float>());  // changed, or not, as without a plan
    }
    const auto did = since.ask();
    CHECK(did.captures == 0);
    CHECK(did.replays == 0);
  }
  CHECK(kept.to_vector<float>() == (picture(5, {2, 3}) * 3).to_vector<float>());
}

TEST_CASE("a network that throws does so as without a graph") {
  bool broken = false;
  const auto net = std::make_shared<Custom>([&](const Tensor& x) {
    if (broken) throw ShapeError("broken");
    return matmul(x, x);
  });
  const Plan ask = plan(net, picture(1, {2, 2}));
  CHECK_THROWS_AS(ask(picture(1, {2, 3})), ShapeError);
  CHECK_THROWS_AS(ask(Tensor::ones({2, 2}, DType::float64, Device::cuda())), TypeError);
  Since since;
  ask(picture(2, {2, 2}));
  CHECK(since.ask().replays == 1);
  ask(picture(1, {3, 3}));
  ask(picture(1, {3, 3}));
  broken = true;
  CHECK_THROWS_WITH_AS(ask(picture(1, {3, 3})), "broken", ShapeError);
}

TEST_CASE("an outer fusion, and training mode, also of a part") {
  const auto net = small_net();
  const Plan ask = plan(net, picture(1).contiguous(MemoryFormat::channels_last));
  const Tensor x = picture(2, {2, 3, 6, 6}), weight = picture(3, {3, 3, 1, 1});
  Since since;
  {
    const InferenceMode inference;
    const Fusion fusion;
    const Tensor beside = conv2d(picture(5), weight);  // waits, and is no part of what is captured
    for (int i = 0; i < 4; ++i) CHECK(ask(x).to_vector<float>() == expected(*net, x));
    CHECK(since.ask().captures == 1);
    const Tensor waits = conv2d(picture(4), weight), answer = ask(waits);
    CHECK(since.ask().replays == 1);
    CHECK(answer.to_vector<float>() == expected(*net, waits));
    CHECK(beside.to_vector<float>() == conv2d(picture(5), weight).to_vector<float>());
  }
  net->at("1").train();
  for (int i = 0; i < 4; ++i) ask(x);
  const auto did = since.ask();
  CHECK(did.captures == 0);
  CHECK(did.replays == 0);
}

TEST_CASE("what is taken and given back beside a graph stays apart from it") {
  const auto net = std::make_shared<Custom>([](const Tensor& x) { return exp(x * 0.5) + x; });
  auto ask = std::make_unique<Plan>(plan(net, picture(1, {64})));
  const Tensor x = picture(2, {64});
  const std::vector<float> answer = (*ask)(x).to_vector<float>();
  Tensors others;
  for (int i = 0; i < 4; ++i) others.push_back(Tensor::full({64}, i, DType::float32, Device::cuda()));
  const Plan copy = *ask;
  ask = nullptr;
  CHECK(copy(x).to_vector<float>() == answer);
  for (int i = 0; i < 4; ++i) CHECK(others[static_cast<std::size_t>(i)].to_vector<float>()[63] == i);
}

TEST_CASE("an index that gets out of range in a graph is told by the next wait") {
  const Tensor index = Tensor::from<std::int64_t>({1, 0}, {2}).to(Device::cuda());
  const auto net = std::make_shared<Custom>([&](const Tensor& x) { return index_select(x, 0, index); });
  const Plan ask = plan(net, picture(1, {2, 3}));
  index.copy_(Tensor::from<std::int64_t>({5, 1}, {2}));
  Since since;
  const Tensor y = ask(picture(2, {2, 3}));
  CHECK(since.ask().replays == 1);
  CHECK_THROWS_WITH_AS(synchronize(Device::cuda()), "synchronize: index_select: index 5 is outside 0..1",
                       DeviceError);
  CHECK(narrow(y, 0, 1, 1).to_vector<float>() == narrow(picture(2, {2, 3}), 0, 1, 1).to_vector<float>());
}
