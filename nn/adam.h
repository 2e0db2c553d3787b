// Adam (Kingma and Ba, ICLR 2015) and AdamW (Loshchilov and Hutter, ICLR 2019), as in PyTorch.
#pragma once

#include <optional>
#include <utility>

#include "grapnel/nn/optim.h"

namespace grapnel::nn {

struct AdamOptions {
  double lr = 1e-3;
  std::pair<double, double> betas{0.9, 0.999};  ///< each at least 0 and below 1
  double eps = 1e-8;
  std::optional<double> weight_decay = {};  ///< where absent 0 for Adam, 0.01 for AdamW
};

/// With g = gradient + weight_decay * p, m = b1 * m + (1 - b1) * g and v = b2 * v + (1 - b2) * g^2, in step
/// t: p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
class Adam : public GroupedOptimizer<AdamOptions> {
 public:
  /// Throws Error for settings out of range.
  explicit Adam(const Groups& groups);
  explicit Adam(Tensors parameters, const AdamOptions& options = {});

 protected:
  Adam(const Groups& groups, bool decoupled);

  bool keeps_slots(std::size_t) const override { return true; }
  void update(std::size_t group, Updates updates) override;

 private:
  bool decoupled_;
};

/// Adam with the weight decay apart from the gradient: p is scaled by 1 - lr * weight_decay first.
class AdamW : public Adam {
 public:
  explicit AdamW(const Groups& groups);
  explicit AdamW(Tensors parameters, const AdamOptions& options = {});
};

}  // namespace grapnel::nn
