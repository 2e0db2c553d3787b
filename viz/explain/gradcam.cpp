// The maps that come from one activation A and one gradient g of the class's logit, both (1,K,h,w). Sums and
// means without an index are over the plane (h,w).
#include "grapnel/engine/ops.h"
#include "grapnel/viz/explain/methods.h"

namespace grapnel::viz {
namespace {

const Dims kPlane{2, 3}, kChannels{1};

/// ReLU(sum_k w_k A_k) for weights (1,K,1,1) or (1,K,h,w).
Tensor weighted(const Tensor& weights, const Tensor& activation) {
  return relu(sum(weights * activation, kChannels, true));
}

}  // namespace

// w_k = mean(g_k). Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2.
Tensor gradcam(const Tensor& activation, const Tensor& gradient) {
  return weighted(mean(gradient, kPlane, true), activation);
}

// w_k = sum a ReLU(g), a = g^2 / (2 g^2 + sum(A_k) g^3). Chattopadhyay et al., "Grad-CAM++", WACV 2018, eq.
// 19, for the exponential of the logit, whose own factor cancels. The eps is pytorch-grad-cam's: it makes a =
// 0 where g = 0, and damps gradients of 1e-3 and less.
Tensor gradcam_plus_plus(const Tensor& activation, const Tensor& gradient) {
  constexpr double kEps = 1e-6;
  const Tensor square = gradient * gradient;
  const Tensor denominator = square * 2.0 + sum(activation, kPlane, true) * square * gradient + kEps;
  return weighted(sum(square / denominator * relu(gradient), kPlane, true), activation);
}

// w_k = sum(g A) / sum(A). Fu et al., "Axiom-based Grad-CAM", BMVC 2020, eq. 8.
Tensor xgradcam(const Tensor& activation, const Tensor& gradient) {
  constexpr double kEps = 1e-7;
  return weighted(sum(gradient * activation, kPlane, true) / (sum(activation, kPlane, true) + kEps),
                  activation);
}

// ReLU(sum_k g A). Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020.
Tensor hirescam(const Tensor& activation, const Tensor& gradient) {
  return weighted(gradient, activation);
}

// sum_k ReLU(g A): HiResCAM that rectifies before it sums.
Tensor elementwise(const Tensor& activation, const Tensor& gradient) {
  return sum(relu(gradient * activation), kChannels, true);
}

// ReLU(sum_k ReLU(g) A). Jiang et al., "LayerCAM", IEEE TIP 2021, eq. 5 to 7.
Tensor layercam(const Tensor& activation, const Tensor& gradient) {
  return weighted(relu(gradient), activation);
}

}  // namespace grapnel::viz
