// Optimizers: from gradients to new parameters, in groups with settings of their own, with hooks around each
// step and a state that can be saved.
//
// This is what all of them share. An optimizer over one parameter, stepped in that parameter's
// post-accumulate hook, is optimizer-in-backward. Read next: sgd.h, adam.h; schedule.h moves the learning
// rate, clip.h bounds gradients.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "grapnel/engine/hooks.h"
#include "grapnel/nn/hooks.h"

namespace grapnel::nn {

class Optimizer;

/// Runs before or after a step; may read and change parameters, gradients and settings.
using StepHook = std::function<void(Optimizer&)>;

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Of all groups, in order.
  const Tensors& parameters() const { return parameters_; }
  /// Unsets every gradient.
  void zero_grad();
  /// Pre-hooks, then an update, unrecorded, of each parameter that has a gradient, then post-hooks. From the
  /// second step on it takes no memory for dense row-major parameters.
  void step();

  // --- groups; each throws NameError for one that does not exist ---
  std::size_t group_count() const { return initial_lrs_.size(); }
  virtual double lr(std::size_t group = 0) const = 0;
  virtual void set_lr(std::size_t group, double lr) = 0;
  /// The learning rate the group was made with: what schedules scale.
  double initial_lr(std::size_t group = 0) const;

  /// Everything the next steps depend on but parameters, gradients and the settings that are not a learning
  /// rate: "lr.0", "initial_lr.0" of group 0, and of the stepped parameter 3 "step.3" and such as
  /// "velocity.3", which share memory with the optimizer.
  NamedTensors state() const;
  /// Copies what state() gave for as many parameters of the same shapes, group by group; the next steps then
  /// have the same bits. Throws NameError with everything that does not fit, and changes nothing.
  void load_state(const NamedTensors& state);

  /// Each throws Error for an empty function; what a hook throws arrives with its kind and name.
  HookHandle register_step_pre_hook(StepHook hook, std::string name = {});
  HookHandle register_step_post_hook(StepHook hook, std::string name = {});

 protected:
  /// What is kept of one parameter between steps.
  struct History {
    std::int64_t step = 0;  // updates so far, the running one included
    Tensors slots;          // row-major, as large as the parameter; unset before it is first used
  };

  /// One parameter in a step, row-major like its gradient.
  struct Update {
    Tensor parameter, gradient;
    History* history;
  };
  using Updates = std::span<Update>;

  struct Group {
    Tensors parameters;
    double initial_lr;
  };

  /// `slots` names what a history holds. Throws AutogradError if there is no parameter, and for a parameter
  /// that is unset, twice in the list, or no leaf that requires a gradient.
  Optimizer(const std::vector<Group>& groups, std::vector<std::string> slots);

  /// Whether the settings of an existing group make its parameters keep slots.
  virtual bool keeps_slots(std::size_t group) const = 0;
  /// Changes the elements of parameters and of their histories' slots, in any order. They are all of one
  /// group and element type, on one device, and in the same step of their history.
  virtual void update(std::size_t group, Updates updates) = 0;

  /// Throws NameError unless there is such a group.
  void check_group(std::size_t group) const;
  /// Throws Error unless the value of an optimizer's setting is at least 0.
  static void check_not_negative(const char* optimizer, const char* setting, double value);

 private:
  void run(const HookList<StepHook>& hooks, const char* kind);

  Tensors parameters_;
  std::vector<std::size_t> group_of_;  // parameter -> group
  std::vector<std::string> slot_names_;
  std::vector<History> histories_;  // of each parameter
  std::vector<double> initial_lrs_;
  HookList<StepHook> pre_hooks_, post_hooks_;
};

/// Parameters that share settings.
template <class Options>
struct ParameterGroup {
  Tensors parameters;
  Options options;
};

/// An optimizer with `Options`, which have an `lr`, for each group.
template <class Options>
class GroupedOptimizer : public Optimizer {
 public:
  using Groups = std::vector<ParameterGroup<Options>>;

  double lr(std::size_t group = 0) const final { return options(group).lr; }
  void set_lr(std::size_t group, double lr) final { options(group).lr = lr; }
  /// May be changed between steps. Throws NameError for a group that does not exist.
  Options& options(std::size_t group = 0) {
    check_group(group);
    return options_[group];
  }
  const Options& options(std::size_t group = 0) const {
    check_group(group);
    return options_[group];
  }

 protected:
  GroupedOptimizer(const Groups& groups, std::vector<std::string> slots)
      : Optimizer(plain(groups), std::move(slots)) {
    for (const auto& group : groups) options_.push_back(group.options);
  }

 private:
  static std::vector<Group> plain(const Groups& groups) {
    std::vector<Group> result;
    for (const auto& [parameters, options] : groups) result.push_back({parameters, options.lr});
    return result;
  }

  std::vector<Options> options_;
};

}  // namespace grapnel::nn
