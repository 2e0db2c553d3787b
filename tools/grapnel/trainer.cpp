#include "trainer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/adam.h"
#include "grapnel/nn/clip.h"
#include "grapnel/nn/sgd.h"

namespace grapnel::tools {
namespace {

constexpr std::string_view kNet = "net.", kOptimizer = "optimizer.";
constexpr const char *kSteps = "trainer.steps", *kRandom = "trainer.random_offset";

bool all_finite(const Tensor& x) {
  // NaN and infinity survive in a sum of magnitudes.
  const NoGrad no_grad;
  return std::isfinite(sum(abs(x)).item());
}

/// The first module, in order of execution, whose output is not finite; empty if there is none.
std::string first_not_finite(nn::Module& net, const Tensor& pictures) {
  std::string first;
  std::vector<ScopedHook> hooks;
  for (const auto& [path, module] : net.named_modules())
    if (module->named_children().empty())
      hooks.emplace_back(module->register_forward_hook(
          [&first](nn::Module& seen, const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
            if (first.empty() && !all_finite(outputs.at(0)))
              first = seen.path() + " (" + seen.type_name() + ")";
            return std::nullopt;
          }));
  const NoGrad no_grad;
  net(pictures);
  return first;
}

std::string cause_of_bad_loss(nn::Module& net, const Tensor& pictures) {
  for (const auto& [name, parameter] : net.named_parameters())
    if (!all_finite(parameter)) return "the update before made " + name + " so; its gradient was not finite";
  const std::string first = first_not_finite(net, pictures);
  return first.empty() ? "cross_entropy made it so" : "the first output that is not is that of " + first;
}

std::int64_t count_correct(const Tensor& logits, const Tensor& labels) {
  const auto best = argmax(logits, 1).to_vector<std::int64_t>(), right = labels.to_vector<std::int64_t>();
  return std::inner_product(best.begin(), best.end(), right.begin(), std::int64_t{0}, std::plus<>(),
                            std::equal_to<>());
}

/// Biases and batch norm's scales are few and do not overfit: they do not decay.
template <class Optimizer, class Options>
std::unique_ptr<nn::Optimizer> make_in_groups(const Tensors& parameters, Options options,
                                              double weight_decay) {
  nn::ParameterGroup<Options> decaying{{}, options}, others{{}, options};
  decaying.options.weight_decay = weight_decay;
  others.options.weight_decay = 0;
  for (const Tensor& parameter : parameters)
    (parameter.rank() > 1 ? decaying : others).parameters.push_back(parameter);
  std::vector<nn::ParameterGroup<Options>> groups;
  for (auto& group : {decaying, others})
    if (!group.parameters.empty()) groups.push_back(group);
  return std::make_unique<Optimizer>(groups);
}

std::unique_ptr<nn::Optimizer> make_optimizer(const TrainSettings& settings, const Tensors& parameters) {
  const nn::AdamOptions adam{.lr = settings.lr};
  if (settings.optimizer == "adam") return make_in_groups<nn::Adam>(parameters, adam, settings.weight_decay);
  if (settings.optimizer == "adamw")
    return make_in_groups<nn::AdamW>(parameters, adam, settings.weight_decay);
  const nn::SGDOptions sgd{
      .lr = settings.lr, .momentum = settings.momentum, .nesterov = settings.momentum > 0};
  return make_in_groups<nn::SGD>(parameters, sgd, settings.weight_decay);
}

nn::Schedule make_schedule(const TrainSettings& settings, std::int64_t steps_per_epoch) {
  const std::int64_t total = settings.epochs * steps_per_epoch;
  const std::int64_t warmup = std::min(settings.warmup * steps_per_epoch, total);
  if (settings.schedule == "one-cycle") return nn::one_cycle_schedule(total);
  const nn::Schedule rest =
      settings.schedule == "cosine" ? nn::cosine_schedule(std::max<std::int64_t>(total - warmup, 1))
      : settings.schedule == "step" ? nn::step_schedule(std::max<std::int64_t>(total / 3, 1), 0.1)
                                    : nn::constant_schedule();
  return warmup > 0 ? nn::warm_up(warmup, rest, 0.01) : rest;
}

bool begins_with_any(const std::string& name, const std::vector<std::string>& prefixes) {
  return std::ranges::any_of(prefixes, [&](const std::string& prefix) { return name.starts_with(prefix); });
}

}  // namespace

Trainer::Trainer(const TrainSettings& settings, std::shared_ptr<nn::Module> net, std::int64_t steps_per_epoch)
    : settings_(settings), net_(std::move(net)), schedule_(make_schedule(settings, steps_per_epoch)) {
  for (const std::string& prefix : settings.frozen)
    if (std::ranges::none_of(net_->named_parameters(),
                             [&](const auto& entry) { return entry.first.starts_with(prefix); }))
      throw NameError("--freeze " + prefix + ": no parameter's name begins so");
  for (const auto& [name, parameter] : net_->named_parameters()) {
    const bool frozen = begins_with_any(name, settings.frozen);
    parameter.set_requires_grad(!frozen);
    if (!frozen) parameters_.push_back(parameter);
  }
  if (parameters_.empty()) throw NameError("--freeze: every parameter is frozen, nothing is left to train");
  optimizer_ = make_optimizer(settings, parameters_);
}

void Trainer::set_train_mode() {
  net_->train();
  // What is frozen keeps its running statistics, too.
  for (const auto& [path, module] : net_->named_modules())
    if (begins_with_any(path + ".", settings_.frozen)) module->eval();
}

Trainer::Result Trainer::step(const Tensor& pictures, const Tensor& labels, const Tensor& other_labels,
                              double other_share) {
  set_train_mode();
  const Tensor logits = (*net_)(pictures);
  const auto loss_of = [&](const Tensor& wanted) {
    return cross_entropy(logits, wanted.to(logits.device()), {.label_smoothing = settings_.label_smoothing});
  };
  Tensor loss = loss_of(labels);
  if (other_labels.defined()) loss = loss * (1 - other_share) + loss_of(other_labels) * other_share;
  const Result result{loss.item(), count_correct(logits, labels)};
  if (!std::isfinite(result.loss))
    throw Error("step " + std::to_string(steps_done_ + 1) + ": the loss is not finite, and " +
                cause_of_bad_loss(*net_, pictures) + "; lower --lr, or limit the gradients with --clip 1");
  loss.backward();
  if (settings_.clip > 0) nn::clip_grad_norm(parameters_, settings_.clip);
  schedule_.apply(*optimizer_, steps_done_++);
  optimizer_->step();
  optimizer_->zero_grad();
  return result;
}

nn::NamedTensors Trainer::state() {
  nn::NamedTensors state;
  for (const auto& [name, tensor] : net_->state_dict()) state.emplace_back(std::string(kNet) + name, tensor);
  for (const auto& [name, tensor] : optimizer_->state())
    state.emplace_back(std::string(kOptimizer) + name, tensor);
  const auto number = [&](const char* name, std::int64_t value) {
    state.emplace_back(name, Tensor::from(std::span<const std::int64_t>(&value, 1), {}));
  };
  number(kSteps, steps_done_);
  number(kRandom, static_cast<std::int64_t>(default_generator().offset()));
  return state;
}

void Trainer::load_state(const nn::NamedTensors& state) {
  nn::NamedTensors net, optimizer;
  std::optional<std::int64_t> steps, random;
  for (const auto& [name, tensor] : state) {
    if (name.starts_with(kNet))
      net.emplace_back(name.substr(kNet.size()), tensor);
    else if (name.starts_with(kOptimizer))
      optimizer.emplace_back(name.substr(kOptimizer.size()), tensor);
    else if (name == kSteps)
      steps = static_cast<std::int64_t>(tensor.item());
    else if (name == kRandom)
      random = static_cast<std::int64_t>(tensor.item());
  }
  if (!steps || !random) throw NameError("it is no checkpoint of `grapnel train`");
  net_->load_state_dict(net);
  optimizer_->load_state(optimizer);
  steps_done_ = *steps;
  default_generator().set_offset(static_cast<std::uint64_t>(*random));
}

}  // namespace grapnel::tools
