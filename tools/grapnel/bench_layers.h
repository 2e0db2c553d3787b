// The time of every layer of a network, by public hooks.
#pragma once

#include <string>
#include <vector>

#include "grapnel/nn/summary.h"
#include "output.h"

namespace grapnel::tools {

/// Interpolated between neighbours, as numpy.quantile does.
double quantile(std::vector<double> values, double q);

struct LayerTime {
  nn::LayerSummary layer;
  double ms;           ///< median over the runs
  std::int64_t bytes;  ///< of its input, its output, its parameters and buffers: each read or written once
  std::string kernel;  ///< how a convolution was computed ("direct", "winograd4", ...); else empty

  double gflop() const { return 2e-9 * static_cast<double>(layer.multiply_adds); }
};

struct LayerTimes {
  std::vector<LayerTime> layers;  ///< one for each call of a module without children, in order
  double outside_ms;              ///< median of what a forward pass takes beside them: additions, views
};

/// Runs the net `repeat` times on x in inference mode, after one run that does not count, with a hook before
/// and after each module without children. What hooks keep apart is not fused: the layers together may take
/// longer than the net without hooks.
LayerTimes time_layers(nn::Module& net, const Tensor& x, int repeat);

/// {name, type, output, kernel, gflop, ms, gflops, share, bytes} of each; `share` is of `peak` GFLOP/s.
Json to_json(const LayerTimes& times, double peak);
/// A table with a line for what is outside and one of totals.
std::string to_string(const LayerTimes& times, double peak);

}  // namespace grapnel::tools
