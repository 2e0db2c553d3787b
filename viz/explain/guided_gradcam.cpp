// Guided Grad-CAM: the guided gradient of the input times the Grad-CAM map of the layer, which has been
// brought to 0..1 at the input's size. Selvaraju et al., "Grad-CAM", ICCV 2017, section 3.2.
#include "grapnel/engine/ops.h"
#include "grapnel/viz/explain/methods.h"

namespace grapnel::viz {

void guided_gradcam(Observation& seen, std::size_t layer, const ExplainOptions&, Explanation& result) {
  set_map(seen, gradcam(seen.activation(layer), seen.gradient(layer, result.target)), result);
  const Tensor& guided = seen.input_gradient(result.target, ReluRule::guided);
  set_gradient(guided * to_tensor(result.heat.map).to(guided.dtype()), result);
}

}  // namespace grapnel::viz
