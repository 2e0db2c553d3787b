#include "grapnel/nn/schedule.h"

#include <cmath>
#include <numbers>
#include <string>

#include "grapnel/nn/optim.h"

namespace grapnel::nn {
namespace {

void check(bool good, const char* schedule, const char* setting, double value, const char* expected) {
  if (!good)
    throw Error(std::string(schedule) + ": " + setting + " is " + std::to_string(value) + ", expected " +
                expected);
}

/// Half a cosine from `first`, where done is 0, to `last`, where it is 1.
double anneal(double first, double last, double done) {
  return last + (first - last) * (1 + std::cos(std::numbers::pi * done)) / 2;
}

}  // namespace

void Schedule::apply(Optimizer& optimizer, std::int64_t step) const {
  for (std::size_t group = 0; group < optimizer.group_count(); ++group)
    optimizer.set_lr(group, lr(optimizer.initial_lr(group), step));
}

Schedule constant_schedule() {
  return Schedule([](double initial, std::int64_t) { return initial; });
}

Schedule step_schedule(std::int64_t size, double gamma) {
  check(size >= 1, "step_schedule", "size", static_cast<double>(size), "at least 1");
  check(gamma >= 0, "step_schedule", "gamma", gamma, "at least 0");
  return Schedule([=](double initial, std::int64_t step) {
    return initial * std::pow(gamma, static_cast<double>(step / size));
  });
}

Schedule cosine_schedule(std::int64_t total, double eta_min) {
  check(total >= 1, "cosine_schedule", "total", static_cast<double>(total), "at least 1");
  check(eta_min >= 0, "cosine_schedule", "eta_min", eta_min, "at least 0");
  return Schedule([=](double initial, std::int64_t step) {
    return anneal(initial, eta_min, static_cast<double>(step) / static_cast<double>(total));
  });
}

Schedule one_cycle_schedule(std::int64_t total, const OneCycleOptions& options) {
  const char* name = "one_cycle_schedule";
  check(total >= 1, name, "total", static_cast<double>(total), "at least 1");
  check(options.pct_start >= 0 && options.pct_start <= 1, name, "pct_start", options.pct_start, "0 to 1");
  check(options.div_factor > 0, name, "div_factor", options.div_factor, "more than 0");
  check(options.final_div_factor > 0, name, "final_div_factor", options.final_div_factor, "more than 0");
  return Schedule([=](double peak, std::int64_t step) {
    check(step < total, name, "step", static_cast<double>(step), "less than the total of steps");
    const double first = peak / options.div_factor, last = first / options.final_div_factor;
    const double top = options.pct_start * static_cast<double>(total) - 1;  // where the peak is
    const double end = static_cast<double>(total - 1), at = static_cast<double>(step);
    if (at > top) return anneal(peak, last, (at - top) / (end - top));
    return top > 0 ? anneal(first, peak, at / top) : peak;
  });
}

Schedule warm_up(std::int64_t steps, Schedule after, double start_factor) {
  check(steps >= 0, "warm_up", "steps", static_cast<double>(steps), "at least 0");
  check(start_factor >= 0 && start_factor <= 1, "warm_up", "start_factor", start_factor, "0 to 1");
  return Schedule([=](double initial, std::int64_t step) {
    if (step >= steps) return after.lr(initial, step - steps);
    const double done = static_cast<double>(step) / static_cast<double>(steps);
    return initial * (start_factor + (1 - start_factor) * done);
  });
}

}  // namespace grapnel::nn
