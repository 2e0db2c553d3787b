// Losses, composed of recorded operations.
#include "grapnel/engine/backend.h"
#include "grapnel/engine/ops.h"

namespace grapnel {
namespace {

Tensor reduced(const Tensor& losses, LossReduction reduction) {
  switch (reduction) {
    case LossReduction::none:
      return losses;
    case LossReduction::sum:
      return sum(losses);
    case LossReduction::mean:
      break;
  }
  return mean(losses);
}

}  // namespace

Tensor nll_loss(const Tensor& log_probabilities, const Tensor& labels, LossReduction reduction) {
  check_rank("nll_loss", log_probabilities, 2, "(N, classes)");
  const std::int64_t count = log_probabilities.size(0), classes = log_probabilities.size(1);
  if (labels.dtype() != DType::int64 || labels.shape() != Shape{count})
    throw ShapeError("nll_loss: expected " + std::to_string(count) + " int64 labels, got " +
                     std::string(name(labels.dtype())) + " of shape " + to_string(labels.shape()));
  for (std::int64_t label : labels.to_vector<std::int64_t>())
    if (label < 0 || label >= classes)
      throw ShapeError("nll_loss: label " + std::to_string(label) + " is outside 0.." +
                       std::to_string(classes - 1));
  return reduced(-reshape(gather(log_probabilities, 1, reshape(labels, {count, 1})), {count}), reduction);
}

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, LossReduction reduction) {
  check_rank("cross_entropy", logits, 2, "(N, classes)");
  return nll_loss(log_softmax(logits, 1), labels, reduction);
}

Tensor mse_loss(const Tensor& x, const Tensor& target, LossReduction reduction) {
  const Tensor difference = x - target;
  return reduced(difference * difference, reduction);
}

}  // namespace grapnel
