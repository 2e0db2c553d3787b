// The layers, each a thin owner of parameters around one operation of the engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "grapnel/engine/ops.h"
#include "grapnel/nn/module.h"

namespace grapnel::nn {

/// weight (out, in/groups, R, S), bias (out); x (N,in,H,W). Starts as in PyTorch (init.h).
class Conv2d : public Module {
 public:
  Conv2d(std::int64_t in_channels, std::int64_t out_channels, std::pair<std::int64_t, std::int64_t> kernel,
         Conv2dOptions options = {}, bool bias = true);
  std::string type_name() const override { return "Conv2d"; }
  std::string settings() const override;

  const Conv2dOptions& options() const { return options_; }
  Tensor& weight;
  Tensor& bias;

 protected:
  Tensor forward(const Tensor& x) override;

 private:
  Conv2dOptions options_;
};

/// weight, bias, running_mean, running_var (channels) and num_batches_tracked (int64 scalar); x
/// (N,channels,H,W).
class BatchNorm2d : public Module {
 public:
  explicit BatchNorm2d(std::int64_t channels, double eps = 1e-5, double momentum = 0.1);
  std::string type_name() const override { return "BatchNorm2d"; }
  std::string settings() const override;

  double eps() const { return eps_; }
  Tensor& weight;
  Tensor& bias;
  Tensor& running_mean;
  Tensor& running_var;
  Tensor& num_batches_tracked;

 protected:
  Tensor forward(const Tensor& x) override;

 private:
  double eps_, momentum_;
};

/// weight (out, in), bias (out); x (..., in). Starts as in PyTorch (init.h).
class Linear : public Module {
 public:
  Linear(std::int64_t in_features, std::int64_t out_features, bool bias = true);
  std::string type_name() const override { return "Linear"; }
  std::string settings() const override;

  Tensor& weight;
  Tensor& bias;

 protected:
  Tensor forward(const Tensor& x) override;
};

class ReLU : public Module {
 public:
  explicit ReLU(bool inplace = false) : inplace_(inplace) {}
  std::string type_name() const override { return "ReLU"; }
  std::string settings() const override { return inplace_ ? "inplace=True" : ""; }

 protected:
  Tensor forward(const Tensor& x) override;

 private:
  bool inplace_;
};

class MaxPool2d : public Module {
 public:
  explicit MaxPool2d(Pool2dOptions options) : options_(options) {}
  std::string type_name() const override { return "MaxPool2d"; }
  std::string settings() const override;

 protected:
  Tensor forward(const Tensor& x) override;

 private:
  Pool2dOptions options_;
};

class AdaptiveAvgPool2d : public Module {
 public:
  AdaptiveAvgPool2d(std::int64_t out_h, std::int64_t out_w) : out_h_(out_h), out_w_(out_w) {}
  std::string type_name() const override { return "AdaptiveAvgPool2d"; }
  std::string settings() const override;

 protected:
  Tensor forward(const Tensor& x) override;

 private:
  std::int64_t out_h_, out_w_;
};

/// The identity unless training.
class Dropout : public Module {
 public:
  explicit Dropout(double p = 0.5) : p_(p) {}
  std::string type_name() const override { return "Dropout"; }
  std::string settings() const override;

 protected:
  Tensor forward(const Tensor& x) override;

 private:
  double p_;
};

/// Merges all dimensions after the first.
class Flatten : public Module {
 public:
  std::string type_name() const override { return "Flatten"; }

 protected:
  Tensor forward(const Tensor& x) override;
};

/// Children "0", "1", ... that somebody else runs; calling the list itself is an Error.
class ModuleList : public Module {
 public:
  ModuleList() = default;
  explicit ModuleList(const std::vector<std::shared_ptr<Module>>& modules);
  std::string type_name() const override { return "ModuleList"; }

  void push_back(std::shared_ptr<Module> module);
  /// Throws NameError beyond the end.
  Module& operator[](std::size_t index);
  std::size_t size() const { return named_children().size(); }
};

/// Children "0", "1", ... run one after the other.
class Sequential : public ModuleList {
 public:
  using ModuleList::ModuleList;
  std::string type_name() const override { return "Sequential"; }

 protected:
  Tensor forward(const Tensor& x) override;
};

}  // namespace grapnel::nn
