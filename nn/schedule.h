// Learning rates over time, as functions of the step's number and nothing else: to go on after an
// interruption takes that number only. They give what torch.optim.lr_scheduler's schedulers of like names
// give.
#pragma once

#include <cstdint>
#include <functional>

namespace grapnel::nn {

class Optimizer;

/// lr(initial learning rate of a group, number of steps taken before this one). What a step is, a batch or an
/// epoch, is the caller's choice.
class Schedule {
 public:
  using Function = std::function<double(double initial_lr, std::int64_t step)>;
  explicit Schedule(Function function) : function_(std::move(function)) {}

  double lr(double initial_lr, std::int64_t step) const { return function_(initial_lr, step); }
  /// Sets the learning rate of every group for this step, from its initial one.
  void apply(Optimizer& optimizer, std::int64_t step) const;

 private:
  Function function_;
};

// Each throws Error for settings out of range.

Schedule constant_schedule();

/// initial * gamma^floor(step / size) (StepLR).
Schedule step_schedule(std::int64_t size, double gamma = 0.1);

/// Half a cosine from the initial rate down to `eta_min` at step `total` (CosineAnnealingLR). After that, as
/// there, it rises again.
Schedule cosine_schedule(std::int64_t total, double eta_min = 0);

struct OneCycleOptions {
  double pct_start = 0.3;         ///< share of the steps that rise
  double div_factor = 25;         ///< the first rate is initial / div_factor ...
  double final_div_factor = 1e4;  ///< ... and the last one is the first / final_div_factor
};
/// Rises to the initial rate, which is OneCycleLR's max_lr, and falls to nearly 0 at step total - 1, both in
/// half a cosine. Throws Error for a step that is not before `total`.
Schedule one_cycle_schedule(std::int64_t total, const OneCycleOptions& options = {});

/// From start_factor * initial in a straight line to the initial rate at step `steps`, where `after` starts
/// with its step 0 (SequentialLR of a LinearLR and another one).
Schedule warm_up(std::int64_t steps, Schedule after, double start_factor = 1.0 / 3);

}  // namespace grapnel::nn
