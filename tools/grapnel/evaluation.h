// How well a network knows the pictures of a folder.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "grapnel/nn/module.h"
#include "loader.h"
#include "output.h"

namespace grapnel::tools {

struct Evaluation {
  std::vector<std::int64_t> seen, correct;  ///< pictures by class
  std::int64_t among_five = 0;              ///< pictures whose class is among the five most probable
  double loss_sum = 0;                      ///< cross entropy over all pictures

  std::int64_t pictures() const;
  double loss() const { return loss_sum / static_cast<double>(pictures()); }
  double accuracy() const;
};

/// Runs the net in eval mode over the loader's pictures; `progress` is told of each batch.
Evaluation evaluate(nn::Module& net, Loader& pictures, std::size_t classes,
                    const std::function<void()>& progress);

}  // namespace grapnel::tools
