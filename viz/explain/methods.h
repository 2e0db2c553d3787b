// The list of methods and what their functions share. Internal to explain/.
#pragma once

#include "grapnel/viz/explain.h"

namespace grapnel::viz {

/// Fills raw, heat and, for gradients, gradient; the rest is there already. `layer` is 0 for methods without.
using Compute = void (*)(Observation& seen, std::size_t layer, const ExplainOptions& options,
                         Explanation& result);

/// One row a method.
struct MethodRow {
  Method method;
  const char* name;
  bool layers;          // explains layers rather than the input alone
  bool input_gradient;  // needs ObserveOptions::input_gradient
  Compute compute;
};

// One file each.
void cam(Observation& seen, std::size_t layer, const ExplainOptions& options, Explanation& result);
void guided_gradcam(Observation& seen, std::size_t layer, const ExplainOptions& options, Explanation& result);

/// A class activation map (1,1,h,w) from what a layer returned and the gradient it got, both (1,K,h,w).
using MapFormula = Tensor (*)(const Tensor& activation, const Tensor& gradient);
Tensor gradcam(const Tensor& activation, const Tensor& gradient);
Tensor gradcam_plus_plus(const Tensor& activation, const Tensor& gradient);
Tensor xgradcam(const Tensor& activation, const Tensor& gradient);
Tensor hirescam(const Tensor& activation, const Tensor& gradient);
Tensor elementwise(const Tensor& activation, const Tensor& gradient);
Tensor layercam(const Tensor& activation, const Tensor& gradient);

/// The common tail: keeps the map, resizes it to the input and brings it to 0..1.
void set_map(const Observation& seen, const Tensor& map, Explanation& result);
/// The same for a gradient (1,3,H,W): its map is the largest absolute value over the channels.
void set_gradient(const Tensor& gradient, Explanation& result);

}  // namespace grapnel::viz
