// Optimizer steps of every table against the formulas in double, on any number of threads.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernel_testing.h"
#include "nest_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;

namespace {

constexpr std::int64_t kCounts[] = {0, 1, 17, 100'003};
constexpr double kRounding = std::numeric_limits<float>::epsilon();

/// Values of one element of p, v (or m) and, for Adam, the second moment.
struct Element {
  double p, first, second;
};

/// A run returns p, then both moments.
template <class Step, class Formula>
void check_against(std::int64_t count, const Step& step, const Formula& formula) {
  const std::vector<float> p = random_values(count, 1), g = random_values(count, 2),
                           first = random_values(count, 3);
  std::vector<float> second = random_values(count, 4);
  for (float& value : second) value = value * value;
  const auto size = static_cast<std::size_t>(count);
  const std::vector<float> got = same_for_any_threads([&] {
    std::vector<float> to = p, one = first, two = second;
    step(count, to.data(), g.data(), one.data(), two.data());
    to.insert(to.end(), one.begin(), one.end());
    to.insert(to.end(), two.begin(), two.end());
    return to;
  });
  int wrong = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const Element want = formula(Element{p[i], first[i], second[i]}, static_cast<double>(g[i]));
    // Some ten roundings, of values up to 4.
    const double allowed = 32 * kRounding;
    wrong += !agree(got[i], want.p, allowed) + !agree(got[size + i], want.first, allowed) +
             !agree(got[2 * size + i], want.second, allowed);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("optim: SGD steps as its formula says, in every table and on any number of threads") {
  const SGDStep steps[] = {{0.1, 0, 0, 0, false},
                           {0.1, 0, 0, 0.5, false},
                           {0.1, 0.9, 0.25, 0.01, false},
                           {0.1, 0.9, 0, 0.01, true}};
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    for (const SGDStep& s : steps) {
      CAPTURE(s.momentum);
      CAPTURE(s.nesterov);
      for (const std::int64_t count : kCounts) {
        check_against(
            count,
            [&](std::int64_t n, float* p, const float* g, float* v, float*) {
              const OptimTensor<float> x{n, p, g, nullptr, s.momentum == 0 ? nullptr : v};
              table->f32.sgd(s, 1, &x);
            },
            [&](Element e, double g) {
              const double d = g + s.weight_decay * e.p;
              if (s.momentum == 0) return Element{e.p - s.lr * d, e.first, e.second};
              const double v = s.momentum * e.first + (1 - s.dampening) * d;
              return Element{e.p - s.lr * (s.nesterov ? d + s.momentum * v : v), v, e.second};
            });
      }
    }
  }
}

TEST_CASE("optim: Adam and AdamW step as their formula says, in every table and on any number of threads") {
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    for (const bool decoupled : {false, true}) {
      CAPTURE(decoupled);
      const AdamStep s{0.01, 0.9, 0.99, 1e-3, 0.1, decoupled, 1 - std::pow(0.9, 3), 1 - std::pow(0.99, 3)};
      for (const std::int64_t count : kCounts) {
        check_against(
            count,
            [&](std::int64_t n, float* p, const float* g, float* m, float* v) {
              const OptimTensor<float> x{n, p, g, m, v};
              table->f32.adam(s, 1, &x);
            },
            [&](Element e, double g) {
              const double d = decoupled ? g : g + s.weight_decay * e.p;
              const double p = decoupled ? e.p * (1 - s.lr * s.weight_decay) : e.p;
              const double m = s.beta1 * e.first + (1 - s.beta1) * d;
              const double v = s.beta2 * e.second + (1 - s.beta2) * d * d;
              return Element{p - s.lr * (m / s.correction1) / (std::sqrt(v / s.correction2) + s.eps), m, v};
            });
      }
    }
  }
}
