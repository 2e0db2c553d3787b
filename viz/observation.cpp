// The run: hooks take notes in between, and every observed point hands on a copy, so that what it keeps is
// what it was. With frozen parameters the graph begins at the first tensor somebody wants a gradient of.
#include "grapnel/viz/observation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/eval_scope.h"
#include "grapnel/nn/layers.h"

namespace grapnel::viz {
namespace {

/// No parameter requires a gradient until the end of the scope: what is recorded then computes none of
/// theirs.
class FrozenScope {
 public:
  explicit FrozenScope(nn::Module& net) {
    for (const Tensor& parameter : net.parameters())
      if (parameter.requires_grad()) thawed_.push_back(parameter.set_requires_grad(false));
  }
  ~FrozenScope() {
    for (const Tensor& parameter : thawed_) parameter.set_requires_grad();
  }
  FrozenScope(const FrozenScope&) = delete;
  FrozenScope& operator=(const FrozenScope&) = delete;

 private:
  Tensors thawed_;
};

/// Another rule for the ReLUs until the end of the scope.
class RuleScope {
 public:
  RuleScope(ReluRule& rule, ReluRule wanted) : rule_(rule), former_(std::exchange(rule, wanted)) {}
  ~RuleScope() { rule_ = former_; }
  RuleScope(const RuleScope&) = delete;
  RuleScope& operator=(const RuleScope&) = delete;

 private:
  ReluRule& rule_;
  ReluRule former_;
};

/// Whether means (1,K) are the means over the planes of maps (1,K,h,w), up to the rounding of a sum of h*w
/// numbers.
bool are_plane_means(const Tensor& means, const Tensor& maps) {
  if (means.shape() != Shape{1, maps.size(1)}) return false;
  const auto mean = means.to_vector<double>(), values = maps.to_vector<double>();
  const std::size_t plane = values.size() / mean.size();
  for (std::size_t k = 0; k < mean.size(); ++k) {
    double sum = 0, size = 0;
    for (std::size_t i = 0; i < plane; ++i) {
      sum += values[k * plane + i];
      size += std::abs(values[k * plane + i]);
    }
    const double count = static_cast<double>(plane);
    if (!(std::abs(mean[k] - sum / count) <= size * std::numeric_limits<float>::epsilon())) return false;
  }
  return true;
}

}  // namespace

Observation::Observation(nn::Module& net, const Tensor& x, const ObserveOptions& options) {
  if (x.rank() != 4 || x.size(0) != 1)
    throw ShapeError("Observation: got an input of shape " + to_string(x.shape()) +
                     ", expected one picture (1,C,H,W); observe those of a batch one by one");
  if (InferenceMode::enabled())
    throw AutogradError("Observation: nothing can be recorded in inference mode; leave it first");

  for (const std::string& layer : options.layers) layers_.push_back({layer, {}, -1});
  for (std::size_t i = 0; i < layers_.size(); ++i) watch_layer(net.at(layers_[i].name), i);
  for (const auto& [path, module] : net.named_modules()) {
    if (dynamic_cast<nn::Linear*>(module)) watch_linear(*module, path);
    if (options.input_gradient && dynamic_cast<nn::ReLU*>(module)) watch_relu(*module);
  }

  input_ = x.detach();
  {
    const nn::EvalScope eval(net);
    const FrozenScope frozen(net);
    const GradMode recording(true);
    output_ = net((options.input_gradient ? input_.set_requires_grad() : input_).clone());
  }
  forward_hooks_.clear();
  logits_ = output_.detach();
  check();
  scores_ = logits_.to_vector<double>();
  probabilities_ = softmax(logits_, 1).to_vector<double>();
}

void Observation::watch_layer(nn::Module& module, std::size_t layer) {
  const auto note = [this, layer](nn::Module&, const Tensors&, const Tensors& outputs) {
    Tensor output = outputs.at(0);
    if (!output.requires_grad()) output = output.detach().set_requires_grad();
    layers_[layer].output = output;
    layers_[layer].time = time_++;
    Tensors handed_on = outputs;
    handed_on[0] = output.clone();
    return std::optional(handed_on);
  };
  forward_hooks_.emplace_back(module.register_forward_hook(note, {.name = "observe"}));
}

void Observation::watch_linear(nn::Module& module, const std::string& name) {
  const auto note = [this, name](nn::Module& called, const Tensors& inputs,
                                 const Tensors& outputs) -> std::optional<Tensors> {
    const Tensor& weight = static_cast<nn::Linear&>(called).weight;
    linear_calls_.push_back({name, inputs.at(0).detach(), outputs.at(0).detach(), weight.detach(), time_++});
    return std::nullopt;
  };
  forward_hooks_.emplace_back(module.register_forward_hook(note, {.name = "observe"}));
}

void Observation::watch_relu(nn::Module& module) {
  const auto bend = [this](nn::Module&, const Tensors& grad_inputs,
                           const Tensors& grad_outputs) -> std::optional<Tensors> {
    if (rule_ == ReluRule::ordinary) return std::nullopt;
    return Tensors{relu(rule_ == ReluRule::guided ? grad_inputs.at(0) : grad_outputs.at(0))};
  };
  relu_hooks_.emplace_back(module.register_full_backward_hook(bend, {.name = "relu rule"}));
}

void Observation::check() const {
  if (logits_.rank() != 2 || logits_.size(0) != 1)
    throw ShapeError("Observation: the net returned " + to_string(logits_.shape()) +
                     ", expected logits (1,classes)");
  for (const Layer& layer : layers_) {
    if (layer.time < 0)
      throw Error("Observation: layer \"" + layer.name + "\" did not run; name a module that is called");
    if (layer.output.rank() != 4 || layer.output.size(0) != 1)
      throw ShapeError("Observation: layer \"" + layer.name + "\" returned " +
                       to_string(layer.output.shape()) +
                       ", expected maps (1,K,h,w); name a convolutional layer or a block of them");
  }
}

double Observation::score(int target) const {
  if (target < 0 || target >= classes())
    throw NameError("Observation: there is no class " + std::to_string(target) + ", the net knows 0 to " +
                    std::to_string(classes() - 1));
  return scores_[static_cast<std::size_t>(target)];
}

double Observation::probability(int target) const {
  score(target);
  return probabilities_[static_cast<std::size_t>(target)];
}

Tensors Observation::gradients(int target, const Tensors& inputs) const {
  score(target);
  Tensors result(inputs.size());
  if (output_.requires_grad()) {
    const Tensor chosen = equal(Tensor::arange(classes(), logits_.dtype(), logits_.device()),
                                Tensor::scalar(target, logits_.dtype(), logits_.device()));
    result = grad({output_}, inputs, {unsqueeze(chosen, 0)}, {.retain_graph = true, .allow_unused = true});
  }
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!result[i].defined()) result[i] = inputs[i].new_zeros(inputs[i].shape());
  return result;
}

const Tensor& Observation::gradient(std::size_t layer, int target) {
  if (layer_target_ != target) {
    Tensors outputs;
    for (const Layer& each : layers_) outputs.push_back(each.output);
    layer_gradients_ = gradients(target, outputs);
    layer_target_ = target;
  }
  return layer_gradients_.at(layer);
}

const Tensor& Observation::input_gradient(int target, ReluRule rule) {
  if (!input_.requires_grad())
    throw Error(
        "Observation: the gradient of the input was not recorded; ask for it with input_gradient = true");
  if (rule != ReluRule::ordinary && relu_hooks_.empty())
    throw Error(
        "Observation: the net has no ReLU module whose gradient could be changed; use the ordinary gradient");
  if (input_case_ != std::pair(target, rule)) {
    const RuleScope scope(rule_, rule);
    input_gradient_ = gradients(target, {input_})[0];
    input_case_ = {target, rule};
  }
  return input_gradient_;
}

Tensor Observation::class_weights(std::size_t layer, int target) const {
  score(target);
  const Layer& observed = layers_.at(layer);
  std::vector<const LinearCall*> after;
  std::string names;
  for (const LinearCall& call : linear_calls_) {
    if (call.time < observed.time) continue;
    after.push_back(&call);
    names += (names.empty() ? "" : ", ") + call.name;
  }
  std::string found;
  if (after.size() != 1)
    found =
        std::to_string(after.size()) + " linear layers follow" + (names.empty() ? "" : " (" + names + ")");
  else if (!are_plane_means(after[0]->input, observed.output))
    found = "\"" + names + "\" reads something else than the plane means of this layer";
  else if (after[0]->output.to_vector<double>() != scores_)
    found = "what \"" + names + "\" returns is not the net's output";
  if (!found.empty())
    throw Error("class weights of layer \"" + observed.name +
                "\": CAM needs global average pooling and exactly one linear layer behind it, but " + found +
                "; use Grad-CAM, which explains any net");
  return reshape(narrow(after[0]->weight, 0, target, 1), {1, after[0]->weight.size(1), 1, 1});
}

}  // namespace grapnel::viz
