#include "grapnel/nn/layers.h"

#include <sstream>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/init.h"

namespace grapnel::nn {
namespace {

using Pair = std::pair<std::int64_t, std::int64_t>;

std::ostream& operator<<(std::ostream& out, const Pair& pair) {
  return out << '(' << pair.first << ", " << pair.second << ')';
}

/// ", name=value" unless the value is the usual one.
template <class T>
void append(std::ostream& out, const char* name, const T& value, const T& usual) {
  if (value != usual) out << ", " << name << '=' << value;
}

}  // namespace

Conv2d::Conv2d(std::int64_t in_channels, std::int64_t out_channels, Pair kernel, Conv2dOptions options,
               bool with_bias)
    : weight(register_parameter("weight", Tensor::empty({out_channels, in_channels / options.groups,
                                                         kernel.first, kernel.second}))),
      bias(register_parameter("bias", with_bias ? Tensor::empty({out_channels}) : Tensor())),
      options_(options) {
  if (in_channels % options.groups != 0 || out_channels % options.groups != 0)
    throw ShapeError("Conv2d: " + std::to_string(in_channels) + " input and " + std::to_string(out_channels) +
                     " output channels do not divide into " + std::to_string(options.groups) + " groups");
  init_default(weight, bias);
}

Tensor Conv2d::forward(const Tensor& x) {
  return conv2d(x, weight, bias, options_);
}

std::string Conv2d::settings() const {
  std::ostringstream out;
  out << weight.size(1) * options_.groups << ", " << weight.size(0)
      << ", kernel_size=" << Pair(weight.size(2), weight.size(3)) << ", stride=" << options_.stride;
  append(out, "padding", options_.padding, Pair(0, 0));
  append(out, "dilation", options_.dilation, Pair(1, 1));
  append(out, "groups", options_.groups, std::int64_t{1});
  if (!bias.defined()) out << ", bias=False";
  return out.str();
}

BatchNorm2d::BatchNorm2d(std::int64_t channels, double eps, double momentum)
    : weight(register_parameter("weight", Tensor::ones({channels}))),
      bias(register_parameter("bias", Tensor::zeros({channels}))),
      running_mean(register_buffer("running_mean", Tensor::zeros({channels}))),
      running_var(register_buffer("running_var", Tensor::ones({channels}))),
      num_batches_tracked(register_buffer("num_batches_tracked", Tensor::zeros({}, DType::int64))),
      eps_(eps),
      momentum_(momentum) {}

Tensor BatchNorm2d::forward(const Tensor& x) {
  if (training()) {
    NoGrad no_grad;
    num_batches_tracked.fill_(num_batches_tracked.item() + 1);
  }
  return batch_norm(x, weight, bias, running_mean, running_var, training(), momentum_, eps_);
}

std::string BatchNorm2d::settings() const {
  std::ostringstream out;
  out << weight.size(0) << ", eps=" << eps_ << ", momentum=" << momentum_;
  return out.str();
}

Linear::Linear(std::int64_t in_features, std::int64_t out_features, bool with_bias)
    : weight(register_parameter("weight", Tensor::empty({out_features, in_features}))),
      bias(register_parameter("bias", with_bias ? Tensor::empty({out_features}) : Tensor())) {
  init_default(weight, bias);
}

Tensor Linear::forward(const Tensor& x) {
  return linear(x, weight, bias);
}

std::string Linear::settings() const {
  std::ostringstream out;
  out << "in_features=" << weight.size(1) << ", out_features=" << weight.size(0)
      << ", bias=" << (bias.defined() ? "True" : "False");
  return out.str();
}

Tensor ReLU::forward(const Tensor& x) {
  return inplace_ ? relu_(x) : relu(x);
}

Tensor MaxPool2d::forward(const Tensor& x) {
  return max_pool2d(x, options_);
}

std::string MaxPool2d::settings() const {
  std::ostringstream out;
  out << "kernel_size=" << options_.kernel
      << ", stride=" << (options_.stride == Pair(0, 0) ? options_.kernel : options_.stride);
  append(out, "padding", options_.padding, Pair(0, 0));
  append(out, "dilation", options_.dilation, Pair(1, 1));
  if (options_.ceil_mode) out << ", ceil_mode=True";
  return out.str();
}

Tensor AdaptiveAvgPool2d::forward(const Tensor& x) {
  return adaptive_avg_pool2d(x, out_h_, out_w_);
}

std::string AdaptiveAvgPool2d::settings() const {
  std::ostringstream out;
  out << "output_size=" << Pair(out_h_, out_w_);
  return out.str();
}

Tensor Dropout::forward(const Tensor& x) {
  return dropout(x, p_, training());
}

std::string Dropout::settings() const {
  std::ostringstream out;
  out << "p=" << p_;
  return out.str();
}

Tensor Flatten::forward(const Tensor& x) {
  return flatten(x, 1);
}

ModuleList::ModuleList(const std::vector<std::shared_ptr<Module>>& modules) {
  for (const auto& module : modules) push_back(module);
}

void ModuleList::push_back(std::shared_ptr<Module> module) {
  register_module(std::to_string(size()), std::move(module));
}

Module& ModuleList::operator[](std::size_t index) {
  return at(std::to_string(index));
}

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  for (const auto& [name, module] : named_children()) y = (*module)(y);
  return y;
}

}  // namespace grapnel::nn
