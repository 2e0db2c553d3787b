// CAM, Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016:
//   map = sum_k W[c,k] A_k, without the bias and without a ReLU.
// Where it applies it is the class's logit, place by place: its mean over the plane is the logit less the
// bias.
#include <algorithm>
#include <cmath>

#include "grapnel/engine/ops.h"
#include "grapnel/viz/explain/methods.h"

namespace grapnel::viz {
namespace {

/// The tail of the paper's script: scaled to 0..255 and cut to integers at the layer's size, resized as the
/// 8-bit picture that it then is.
Heatmap classic_tail(FloatMap map, int height, int width) {
  const auto [low_at, high_at] = std::minmax_element(map.values.begin(), map.values.end());
  const float low = *low_at, range = *high_at - low;
  for (float& value : map.values) value = std::floor(255 * ((value - low) / range));
  FloatMap large = resize(map, height, width);
  for (float& value : large.values) value = std::nearbyint(value) / 255;
  return {std::move(large), false};
}

}  // namespace

void cam(Observation& seen, std::size_t layer, const ExplainOptions& options, Explanation& result) {
  set_map(seen, sum(seen.class_weights(layer, result.target) * seen.activation(layer), {1}, true), result);
  // Nothing can be scaled to 0..255 in a flat map, where the script divides by zero.
  if (options.classic_tail && !min_max(result.raw).flat)
    result.heat = classic_tail(result.raw, result.heat.map.height, result.heat.map.width);
}

}  // namespace grapnel::viz
