// One training run without its data: the network, its optimizer and schedule, and the step they take
// together.
//
// Everything that decides the bits of the result is in TrainSettings and in state(): a trainer that was made
// with the same settings and given the state of another goes on where that one was.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grapnel/nn/models.h"
#include "grapnel/nn/optim.h"
#include "grapnel/nn/schedule.h"

namespace grapnel::tools {

struct TrainSettings {
  std::string model = "resnet18";
  std::int64_t width = 16;
  int epochs = 30, batch = 128, warmup = 1;  ///< warmup: epochs over which the learning rate rises
  std::string optimizer = "sgd";             ///< sgd, adam, adamw
  std::string schedule = "cosine";           ///< cosine, step, one-cycle, constant
  double lr = 0.1, momentum = 0.9, weight_decay = 5e-4;
  double label_smoothing = 0, clip = 0;  ///< clip: largest norm of all gradients together; 0 is no limit
  std::vector<std::string> frozen = {};  ///< beginnings of the names of parameters that stay as they are
  std::uint64_t seed = 0;
  Device device = {};
};

class Trainer {
 public:
  /// Throws NameError for a frozen prefix that no parameter has or that leaves nothing to train.
  Trainer(const TrainSettings& settings, std::shared_ptr<nn::Module> net, std::int64_t steps_per_epoch);

  struct Result {
    double loss;           ///< mean of the batch
    std::int64_t correct;  ///< pictures whose best class, before the step, is the right one
  };
  /// Forward, cross entropy, backward, update. With `other_labels` the loss is (1 - other_share) that of
  /// `labels` plus other_share that of those. Throws Error, naming the first module whose output is not
  /// finite, if the loss is not; nothing is updated then.
  Result step(const Tensor& pictures, const Tensor& labels, const Tensor& other_labels = {},
              double other_share = 0);

  nn::Module& net() { return *net_; }
  std::int64_t steps_done() const { return steps_done_; }
  double lr() const { return optimizer_->lr(0); }

  /// The network's state under its names, the optimizer's under "optimizer.", and the counters.
  nn::NamedTensors state();
  /// Throws NameError, and changes nothing, if the names or shapes are not those of state().
  void load_state(const nn::NamedTensors& state);

 private:
  void set_train_mode();

  TrainSettings settings_;
  std::shared_ptr<nn::Module> net_;
  Tensors parameters_;  // those that are trained
  std::unique_ptr<nn::Optimizer> optimizer_;
  nn::Schedule schedule_;
  std::int64_t steps_done_ = 0;
};

}  // namespace grapnel::tools
