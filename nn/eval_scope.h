// Eval mode for the length of a scope.
#pragma once

#include <utility>
#include <vector>

#include "grapnel/nn/module.h"

namespace grapnel::nn {

/// Puts a net into eval mode and, at the end of the scope, each of its modules back into its own.
class EvalScope {
 public:
  explicit EvalScope(Module& net) {
    for (const auto& [path, module] : net.named_modules()) modes_.emplace_back(module, module->training());
    net.eval();
  }
  ~EvalScope() {
    // Parents first: what a parent sets for its children is then corrected by their own turn.
    for (const auto& [module, training] : modes_) module->train(training);
  }
  EvalScope(const EvalScope&) = delete;
  EvalScope& operator=(const EvalScope&) = delete;

 private:
  std::vector<std::pair<Module*, bool>> modes_;
};

}  // namespace grapnel::nn
