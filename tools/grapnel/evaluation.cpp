#include "evaluation.h"

#include <numeric>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/eval_scope.h"

namespace grapnel::tools {

std::int64_t Evaluation::pictures() const {
  return std::accumulate(seen.begin(), seen.end(), std::int64_t{0});
}

double Evaluation::accuracy() const {
  return static_cast<double>(std::accumulate(correct.begin(), correct.end(), std::int64_t{0})) /
         static_cast<double>(pictures());
}

Evaluation evaluate(nn::Module& net, Loader& pictures, std::size_t classes,
                    const std::function<void()>& progress) {
  const nn::EvalScope eval(net);
  const InferenceMode inference;
  Evaluation result{std::vector<std::int64_t>(classes), std::vector<std::int64_t>(classes)};
  pictures.start(0);
  while (const auto batch = pictures.next()) {
    const Tensor logits = net(batch->pictures);
    result.loss_sum += cross_entropy(logits, batch->labels.to(logits.device()), LossReduction::sum).item();
    const auto scores = logits.to_vector<float>();
    const auto labels = batch->labels.to_vector<std::int64_t>();
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const auto label = static_cast<std::size_t>(labels[i]);
      const std::span<const float> row(scores.data() + i * classes, classes);
      const auto better = std::ranges::count_if(row, [&](float score) { return score > row[label]; });
      ++result.seen[label];
      result.correct[label] += better == 0;
      result.among_five += better < 5;
    }
    progress();
  }
  return result;
}

}  // namespace grapnel::tools
