// The tree: names, paths, state, loading, modes.
#include "grapnel/nn/module.h"

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/layers.h"
#include "nn/small_modules.h"
#include "support/device.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::Module;
using nn::NamedTensors;

namespace {

template <class List>
std::vector<std::string> names(const List& list) {
  std::vector<std::string> result;
  for (const auto& entry : list) result.push_back(entry.first);
  return result;
}

using Names = std::vector<std::string>;

/// conv, bn, and a nested Sequential with a second convolution.
std::shared_ptr<nn::Sequential> small_net() {
  return std::make_shared<nn::Sequential>(std::vector<std::shared_ptr<Module>>{
      std::make_shared<nn::Conv2d>(3, 4, std::pair(3, 3)), std::make_shared<nn::BatchNorm2d>(4),
      std::make_shared<nn::Sequential>(std::vector<std::shared_ptr<Module>>{
          std::make_shared<nn::ReLU>(),
          std::make_shared<nn::Conv2d>(4, 2, std::pair(1, 1), Conv2dOptions{}, false)})});
}

/// Registers whatever it is told to.
struct Open : Labelled {
  using Labelled::Labelled;
  std::string type_name() const override { return "Open"; }
  using Module::register_buffer;
  using Module::register_module;
  using Module::register_parameter;
};

NamedTensors copies_of(const NamedTensors& state) {
  NamedTensors result;
  for (const auto& [name, tensor] : state) result.emplace_back(name, tensor.clone());
  return result;
}

std::vector<std::vector<double>> values_of(const NamedTensors& state) {
  std::vector<std::vector<double>> result;
  for (const auto& [name, tensor] : state) result.push_back(tensor.to_vector<double>());
  return result;
}

}  // namespace

TEST_CASE("module tree: names in registration order, parents first") {
  auto net = small_net();
  CHECK(names(net->named_modules()) == Names{"", "0", "1", "2", "2.0", "2.1"});
  CHECK(names(net->named_children()) == Names{"0", "1", "2"});
  CHECK(names(net->named_parameters()) == Names{"0.weight", "0.bias", "1.weight", "1.bias", "2.1.weight"});
  CHECK(names(net->named_buffers()) == Names{"1.running_mean", "1.running_var", "1.num_batches_tracked"});
  CHECK(names(net->state_dict()) == Names{"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean",
                                          "1.running_var", "1.num_batches_tracked", "2.1.weight"});
  CHECK(net->parameters().size() == 5);
  CHECK(net->parameters()[4].is_same(dynamic_cast<nn::Conv2d&>(net->at("2.1")).weight));
}

TEST_CASE("module tree: at() follows a path and says what there is near a wrong one") {
  auto net = small_net();
  CHECK(&net->at("") == net.get());
  CHECK(net->at("2.1").type_name() == "Conv2d");
  CHECK(net->at("2.1").path() == "2.1");
  CHECK(net->path() == "");
  CHECK_THROWS_WITH_AS(net->at("3"), "no module \"3\": the root (Sequential) has 0, 1, 2", NameError);
  CHECK_THROWS_WITH_AS(net->at("2.7.x"), "no module \"2.7.x\": \"2\" (Sequential) has 0, 1", NameError);
  CHECK_THROWS_WITH_AS(net->at("2.1.x"), "no module \"2.1.x\": \"2.1\" (Conv2d) has no children", NameError);
  CHECK_THROWS_AS(net->at("2..1"), NameError);
  CHECK_THROWS_AS(net->at("2.1."), NameError);
}

TEST_CASE("module tree: a shared module appears once in the tree and under both names in the state") {
  auto shared = std::make_shared<Scale>("shared", 2);
  auto net = std::make_shared<Open>("net");
  net->register_module("a", shared);
  net->register_module("b", shared);
  net->register_parameter("w", shared->weight);
  CHECK(names(net->named_modules()) == Names{"", "a"});
  CHECK(names(net->named_parameters()) == Names{"w"});
  CHECK(names(net->state_dict()) == Names{"w", "a.weight", "b.weight"});
  CHECK(shared->path() == "a");
  Open other("other");
  other.register_module("c", shared);
  CHECK(shared->path() == "a");
  net.reset();
  CHECK(shared->path() == "");
}

TEST_CASE("module tree: names that cannot be used are refused") {
  Open net("net");
  net.register_parameter("w", Tensor::ones({1}));
  for (const char* name : {"", "a.b", "w"}) {
    CHECK_THROWS_AS(net.register_parameter(name, Tensor::ones({1})), NameError);
    CHECK_THROWS_AS(net.register_buffer(name, Tensor::ones({1})), NameError);
    CHECK_THROWS_AS(net.register_module(name, std::make_shared<Open>("child")), NameError);
  }
  CHECK_THROWS_AS(net.register_module("none", std::shared_ptr<Open>()), NameError);
  CHECK(names(net.state_dict()) == Names{"w"});
}

TEST_CASE("module parameters: leaves that require a gradient, absent ones left out") {
  Open net("net");
  const Tensor computed = leaf(3) * 2.0;
  const Tensor& w = net.register_parameter("w", computed);
  const Tensor& none = net.register_parameter("none", Tensor());
  const Tensor& counter = net.register_buffer("counter", Tensor::zeros({}, DType::int64));
  CHECK(w.is_leaf());
  CHECK(w.requires_grad());
  CHECK_FALSE(none.defined());
  CHECK_FALSE(counter.requires_grad());
  CHECK(names(net.named_parameters()) == Names{"w"});
  CHECK(names(net.state_dict()) == Names{"w", "counter"});
}

TEST_CASE("module state: shares memory, and a copy of it loads back") {
  auto net = small_net(), other = small_net();
  for (const auto& [name, tensor] : net->state_dict()) CHECK_FALSE(tensor.requires_grad());
  CHECK(values_of(net->state_dict()) != values_of(other->state_dict()));
  const auto report = other->load_state_dict(net->state_dict());
  CHECK(report.ok());
  CHECK(values_of(net->state_dict()) == values_of(other->state_dict()));
  net->state_dict()[0].second.fill_(7);
  CHECK(net->parameters()[0].to_vector<float>() == std::vector<float>(4 * 3 * 3 * 3, 7.0f));
  CHECK(values_of(net->state_dict()) != values_of(other->state_dict()));
  CHECK(other->parameters()[0].is_leaf());
  CHECK(other->parameters()[0].requires_grad());
}

TEST_CASE("module state: loading converts the element type and keeps the net's own") {
  Scale net("net", 2);
  net.load_state_dict({{"weight", Tensor::full({1}, 0.1, DType::float64)}});
  CHECK(net.weight.dtype() == DType::float32);
  CHECK(net.weight.item() == static_cast<double>(0.1f));
}

TEST_CASE(
    "module state: what is assigned is not copied, and keeps the parameter's place, gradient and hooks") {
  auto net = small_net();
  const Tensor weight = net->parameters()[0];
  int calls = 0;
  weight.register_hook([&calls](const Tensor&) -> std::optional<Tensor> {
    ++calls;
    return std::nullopt;
  });
  const Tensor product = weight * weight;  // recorded with the former values
  const std::vector<double> former = weight.to_vector<double>();
  NamedTensors state = copies_of(net->state_dict());
  for (auto& [name, tensor] : state) {
    if (name == "0.weight") tensor = Tensor::full({4, 3, 3, 3}, 5);
    if (name == "0.bias") tensor = Tensor::full({4}, 2, DType::float64);
  }
  CHECK(net->load_state_dict(state, true, true).ok());

  for (const auto& [key, tensor] : net->state_dict()) {
    const std::string& name = key;
    const auto given =
        std::find_if(state.begin(), state.end(), [&](const auto& entry) { return entry.first == name; });
    REQUIRE(given != state.end());
    CAPTURE(name);
    CHECK(tensor.to_vector<double>() == given->second.to_vector<double>());
    // Another type is converted into the module's own memory.
    CHECK((tensor.storage() == given->second.storage()) == (name != "0.bias"));
  }
  CHECK(net->parameters()[0].is_same(weight));
  sum(product).backward();
  CHECK(calls == 1);
  std::vector<double> twice = former;
  for (double& value : twice) value *= 2;
  CHECK(weight.grad().to_vector<double>() == twice);

  state[0].second = Tensor::ones({5, 3, 3, 3});
  CHECK_THROWS_AS(net->load_state_dict(state, true, true), NameError);
  CHECK(weight.to_vector<float>() == std::vector<float>(4 * 3 * 3 * 3, 5.0f));
}

TEST_CASE("module state: before a hook that looks at what was loaded, assigning copies") {
  auto net = small_net();
  NamedTensors state = copies_of(net->state_dict());
  state[0].second.fill_(5);
  double seen = 0;
  net->register_load_state_dict_post_hook(
      [&](Module& module, nn::LoadReport&) { seen = module.parameters()[0].to_vector<double>()[0]; });
  net->load_state_dict(state, true, true);
  CHECK(seen == 5);
  CHECK(net->parameters()[0].storage() != state[0].second.storage());
}

TEST_CASE("module state: a failed load reports everything and changes nothing") {
  auto net = small_net();
  const auto before = values_of(net->state_dict());
  NamedTensors state = copies_of(net->state_dict());
  for (auto& [name, tensor] : state) tensor.fill_(9);
  std::erase_if(state,
                [](const auto& entry) { return entry.first == "0.bias" || entry.first == "1.weight"; });
  state.emplace_back("fc.weight", Tensor::ones({1}));
  state.emplace_back("fc.bias", Tensor::ones({1}));
  state.emplace_back("1.bias", Tensor::ones({4}));
  state.back().second = Tensor::ones({4});
  for (auto& [name, tensor] : state) {
    if (name == "0.weight") tensor = Tensor::ones({5, 3, 3, 3});
    if (name == "2.1.weight") tensor = Tensor();
  }
  CHECK_THROWS_WITH_AS(
      net->load_state_dict(state),
      "load_state_dict: 2 missing (0.bias, 1.weight); 3 unexpected (1.bias a second time, fc.weight, "
      "fc.bias); "
      "2 of another shape (0.weight: (5, 3, 3, 3) instead of (4, 3, 3, 3), 2.1.weight: nothing instead of "
      "(2, 4, 1, 1)); nothing was loaded",
      NameError);
  CHECK(values_of(net->state_dict()) == before);
  CHECK_THROWS_AS(net->load_state_dict(state, false), NameError);
  CHECK(values_of(net->state_dict()) == before);
}

TEST_CASE("module state: a loose load takes what fits and reports the rest") {
  auto net = small_net();
  const auto report =
      net->load_state_dict({{"0.bias", Tensor::full({4}, 3)}, {"fc.bias", Tensor::ones({1})}}, false);
  CHECK(report.unexpected == Names{"fc.bias"});
  CHECK(report.missing ==
        Names{"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.1.weight"});
  CHECK(report.mismatched.empty());
  CHECK(net->parameters()[1].to_vector<float>() == std::vector<float>(4, 3.0f));
}

TEST_CASE("module state: num_batches_tracked may be absent, for files older than it") {
  auto net = small_net();
  NamedTensors state = net->state_dict();
  std::erase_if(state, [](const auto& entry) { return entry.first == "1.num_batches_tracked"; });
  CHECK(net->load_state_dict(state).ok());
  std::erase_if(state, [](const auto& entry) { return entry.first == "1.running_mean"; });
  CHECK_THROWS_AS(net->load_state_dict(state), NameError);
}

TEST_CASE("module modes: train and eval reach every module") {
  auto net = small_net();
  const auto count_training = [&net] {
    int count = 0;
    for (const auto& [path, module] : net->named_modules()) count += module->training();
    return count;
  };
  CHECK(count_training() == 6);
  net->eval();
  CHECK(count_training() == 0);
  net->at("2").train();
  CHECK(count_training() == 3);
}

TEST_CASE("module modes: to() converts what is floating, keeps sharing and requires_grad") {
  auto net = small_net();
  auto& conv = dynamic_cast<nn::Conv2d&>(net->at("0"));
  conv.bias.set_requires_grad(false);
  sum(conv.weight).backward();
  net->to(DType::float32);
  CHECK(conv.weight.grad().defined());
  const auto before = values_of(net->state_dict());
  net->to(DType::float64);
  CHECK(conv.weight.dtype() == DType::float64);
  CHECK(conv.weight.is_leaf());
  CHECK(conv.weight.requires_grad());
  CHECK_FALSE(conv.weight.grad().defined());
  CHECK_FALSE(conv.bias.requires_grad());
  CHECK(dynamic_cast<nn::BatchNorm2d&>(net->at("1")).running_var.dtype() == DType::float64);
  CHECK(dynamic_cast<nn::BatchNorm2d&>(net->at("1")).num_batches_tracked.dtype() == DType::int64);
  CHECK(values_of(net->state_dict()) == before);
  if (on_cpu()) CHECK((*net)(Tensor::ones({1, 3, 5, 5}, DType::float64)).dtype() == DType::float64);
  CHECK_THROWS_AS(net->to(DType::int64), TypeError);

  auto tied = std::make_shared<Open>("net");
  const Tensor& a = tied->register_parameter("a", leaf(1));
  const Tensor& b = tied->register_parameter("b", a);
  tied->to(DType::float64);
  CHECK(a.is_same(b));
}

TEST_CASE("module modes: gradients are cleared and switched for every parameter") {
  auto net = two_scales();
  (*net)(leaf(3)).backward();
  for (const Tensor& parameter : net->parameters()) CHECK(parameter.grad().defined());
  net->zero_grad();
  for (const Tensor& parameter : net->parameters()) CHECK_FALSE(parameter.grad().defined());
  net->set_requires_grad(false);
  CHECK_FALSE((*net)(leaf(3, false)).requires_grad());
  net->set_requires_grad(true);
  CHECK((*net)(leaf(3, false)).requires_grad());
}
