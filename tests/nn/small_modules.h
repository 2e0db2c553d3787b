// Tiny modules over one-element tensors, the same as in golden/make_hook_order.py.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "grapnel/engine/ops.h"
#include "grapnel/nn/module.h"

namespace grapnel::testing {

struct Labelled : nn::Module {
  explicit Labelled(std::string text) : label(std::move(text)) {}
  std::string label;
};

/// x * weight.
struct Scale : Labelled {
  Scale(std::string text, double factor)
      : Labelled(std::move(text)), weight(register_parameter("weight", Tensor::full({1}, factor))) {}
  std::string type_name() const override { return "Scale"; }
  Tensor& weight;

 protected:
  Tensor forward(const Tensor& x) override { return x * weight; }
};

/// Its parts one after the other, named "first" and "second".
struct Chain : Labelled {
  Chain(std::string text, std::shared_ptr<Labelled> a, std::shared_ptr<Labelled> b)
      : Labelled(std::move(text)) {
    first = register_module("first", std::move(a));
    second = register_module("second", std::move(b));
  }
  std::string type_name() const override { return "Chain"; }
  std::shared_ptr<Labelled> first, second;

 protected:
  Tensor forward(const Tensor& x) override { return (*second)((*first)(x)); }
};

/// (a, b) -> (a + b, a * b).
struct SumAndProduct : Labelled {
  using Labelled::Labelled;
  std::string type_name() const override { return "SumAndProduct"; }

 protected:
  Tensors forward_list(const Tensors& x) override { return {x[0] + x[1], x[0] * x[1]}; }
};

struct Failing : Labelled {
  using Labelled::Labelled;
  std::string type_name() const override { return "Failing"; }

 protected:
  Tensor forward(const Tensor&) override { throw Error("on purpose"); }
};

struct Cube : Labelled {
  using Labelled::Labelled;
  std::string type_name() const override { return "Cube"; }

 protected:
  Tensor forward(const Tensor& x) override { return x * x * x; }
};

inline std::shared_ptr<Chain> two_scales() {
  return std::make_shared<Chain>("net", std::make_shared<Scale>("first", 2),
                                 std::make_shared<Scale>("second", 5));
}

inline Tensor leaf(double value, bool requires_grad = true) {
  return Tensor::full({1}, value).set_requires_grad(requires_grad);
}

}  // namespace grapnel::testing
