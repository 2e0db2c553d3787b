// Schedules step by step against torch.optim.lr_scheduler (golden/make_optimizers.py).
#include "grapnel/nn/schedule.h"

#include <limits>

#include "grapnel/nn/sgd.h"
#include "nn/any_hook.h"
#include "nn/scenario.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::Schedule;

TEST_CASE("schedules: every rate is PyTorch's") {
  const auto steps = [] { return nn::step_schedule(3, 0.3); };
  const auto cosine = [] { return nn::cosine_schedule(10, 0.01); };
  const std::vector<std::pair<std::string, Schedule>> schedules{
      {"constant", nn::constant_schedule()},
      {"step", steps()},
      {"cosine", cosine()},
      {"one_cycle", nn::one_cycle_schedule(20)},
      {"one_cycle settings",
       nn::one_cycle_schedule(17, {.pct_start = 0.4, .div_factor = 10, .final_div_factor = 100})},
      {"one_cycle falling", nn::one_cycle_schedule(6, {.pct_start = 0.01})},
      {"warm_up constant", nn::warm_up(5, nn::constant_schedule())},
      {"warm_up step", nn::warm_up(4, steps(), 0.25)},
      {"warm_up cosine", nn::warm_up(4, cosine(), 0.25)},
  };
  for (const auto& [key, schedule] : schedules) {
    const std::string name = key;
    const auto expected = scenario_lines("schedules.txt", name);
    for (std::size_t step = 0; step < expected.size(); ++step) {
      INFO(name, " at step ", step);
      // PyTorch computes each rate from the one before: a few roundings a step, of values up to 0.1.
      CHECK(std::abs(schedule.lr(0.1, static_cast<std::int64_t>(step)) - std::stod(expected[step])) <=
            16 * 0.1 * std::numeric_limits<double>::epsilon());
    }
  }
}

TEST_CASE("schedules: one moves all groups, each from its own start") {
  const Tensor a = leaf(1), b = leaf(1);
  nn::SGD optimizer({{{a}, {.lr = 1}}, {{b}, {.lr = 0.25}}});
  const Schedule halves = nn::step_schedule(2, 0.5);
  halves.apply(optimizer, 5);
  CHECK(optimizer.lr(0) == 0.25);
  CHECK(optimizer.lr(1) == 0.0625);
  halves.apply(optimizer, 1);
  CHECK(optimizer.lr(0) == 1);
  CHECK(optimizer.lr(1) == 0.25);
}

TEST_CASE("schedules: the shortest ones") {
  CHECK(nn::one_cycle_schedule(1).lr(0.1, 0) == doctest::Approx(0.1 / 25 / 1e4));
  CHECK(nn::one_cycle_schedule(4, {.pct_start = 0.25}).lr(0.1, 0) == 0.1);
  CHECK(nn::warm_up(0, nn::constant_schedule()).lr(0.1, 0) == 0.1);
}

TEST_CASE("schedules: settings out of range are refused") {
  const auto refusal = [](auto make) { return message_of<Error>(make); };
  CHECK(refusal([] { nn::step_schedule(0); }) == "step_schedule: size is 0.000000, expected at least 1");
  CHECK(refusal([] { nn::step_schedule(1, -1); }) ==
        "step_schedule: gamma is -1.000000, expected at least 0");
  CHECK(refusal([] { nn::cosine_schedule(0); }) == "cosine_schedule: total is 0.000000, expected at least 1");
  CHECK(refusal([] { nn::cosine_schedule(1, -1); }) ==
        "cosine_schedule: eta_min is -1.000000, expected at least 0");
  CHECK(refusal([] { nn::one_cycle_schedule(0); }) ==
        "one_cycle_schedule: total is 0.000000, expected at least 1");
  CHECK(refusal([] { nn::one_cycle_schedule(5, {.pct_start = 1.5}); }) ==
        "one_cycle_schedule: pct_start is 1.500000, expected 0 to 1");
  CHECK(refusal([] { nn::one_cycle_schedule(5, {.div_factor = 0}); }) ==
        "one_cycle_schedule: div_factor is 0.000000, expected more than 0");
  CHECK(refusal([] { nn::one_cycle_schedule(5, {.final_div_factor = 0}); }) ==
        "one_cycle_schedule: final_div_factor is 0.000000, expected more than 0");
  CHECK(refusal([] { (void)nn::one_cycle_schedule(5).lr(0.1, 5); }) ==
        "one_cycle_schedule: step is 5.000000, expected less than the total of steps");
  CHECK(refusal([] { nn::warm_up(-1, nn::constant_schedule()); }) ==
        "warm_up: steps is -1.000000, expected at least 0");
  CHECK(refusal([] { nn::warm_up(1, nn::constant_schedule(), 2); }) ==
        "warm_up: start_factor is 2.000000, expected 0 to 1");
}
