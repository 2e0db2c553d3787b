// What a network consists of, in the order in which it runs, and what that costs.
#pragma once

#include <string>
#include <vector>

#include "grapnel/nn/module.h"

namespace grapnel::nn {

struct LayerSummary {
  std::string name, type, settings;
  Shape output;
  std::int64_t parameters = 0;     ///< its own, at its first call; 0 when it runs again
  std::int64_t multiply_adds = 0;  ///< of convolutions and linear layers; what else there is costs little
};

struct Summary {
  std::vector<LayerSummary> layers;  ///< one row for each call of a module without children
  std::int64_t parameters = 0;       ///< of the whole net, trainable or not
  std::int64_t multiply_adds = 0;
};

/// Runs the net once on zeros of shape `input`, in eval mode and without recording, with hooks that take
/// notes; hooks that are there already fire too.
Summary summarize(Module& net, const Shape& input);

/// A table with a line of totals.
std::string to_string(const Summary& summary);

}  // namespace grapnel::nn
