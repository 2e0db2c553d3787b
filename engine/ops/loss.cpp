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

void check_labels(const char* name, const Tensor& scores, const Tensor& labels, const Tensor& weight) {
  check_rank(name, scores, 2, "(N, classes)");
  const std::int64_t count = scores.size(0), classes = scores.size(1);
  const std::string start = std::string(name) + ": ";
  if (labels.dtype() != DType::int64 || labels.shape() != Shape{count})
    throw ShapeError(start + "expected " + std::to_string(count) + " int64 labels, got " +
                     std::string(grapnel::name(labels.dtype())) + " of shape " + to_string(labels.shape()));
  check_indices(name, "label", labels.contiguous(), classes);
  if (!weight.defined()) return;
  check_same_type(name, scores, weight);
  if (weight.shape() != Shape{classes})
    throw ShapeError(start + "expected a weight for each of " + std::to_string(classes) +
                     " classes, got shape " + to_string(weight.shape()));
}

/// What both losses of a class label are: with s smoothing, w weights, C classes and l log probabilities,
/// loss[n] = -(1 - s) w[y] l[n, y] - s / C sum_c w[c] l[n, c], and the mean is divided by sum_n w[y[n]].
Tensor label_loss(const Tensor& log_probabilities, const Tensor& labels, const CrossEntropyOptions& options) {
  const std::int64_t count = log_probabilities.size(0), classes = log_probabilities.size(1);
  const double smoothing = options.label_smoothing;
  const bool weighted = options.weight.defined();
  const Tensor weight = weighted ? options.weight.detach() : Tensor();
  const Tensor of_label = weighted ? index_select(weight, 0, labels) : Tensor();

  Tensor losses = -reshape(gather(log_probabilities, 1, reshape(labels, {count, 1})), {count});
  if (weighted) losses = losses * of_label;
  if (smoothing != 0) {
    const Tensor all = weighted ? log_probabilities * weight : log_probabilities;
    losses = losses * (1 - smoothing) - sum(all, {1}) * (smoothing / static_cast<double>(classes));
  }
  if (weighted && options.reduction == LossReduction::mean) return sum(losses) / sum(of_label);
  return reduced(losses, options.reduction);
}

}  // namespace

Tensor nll_loss(const Tensor& log_probabilities, const Tensor& labels, LossReduction reduction,
                const Tensor& weight) {
  check_labels("nll_loss", log_probabilities, labels, weight);
  return label_loss(log_probabilities, labels, {.reduction = reduction, .weight = weight});
}

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options) {
  check_labels("cross_entropy", logits, labels, options.weight);
  if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1))
    throw Error("cross_entropy: label_smoothing is " + std::to_string(options.label_smoothing) +
                ", expected 0 to 1");
  return label_loss(log_softmax(logits, 1), labels, options);
}

// The cross entropy of two classes with the logits x and 0: exact for large |x|, and smooth at 0.
Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target, LossReduction reduction) {
  if (x.shape() != target.shape())
    throw ShapeError("binary_cross_entropy_with_logits: expected a target for each logit of shape " +
                     to_string(x.shape()) + ", got shape " + to_string(target.shape()));
  const Tensor both = log_softmax(stack({x, x.new_zeros(x.shape())}), 0);
  return reduced(-(target * select(both, 0, 0) + (1 - target) * select(both, 0, 1)), reduction);
}

Tensor mse_loss(const Tensor& x, const Tensor& target, LossReduction reduction) {
  const Tensor difference = x - target;
  return reduced(difference * difference, reduction);
}

}  // namespace grapnel
