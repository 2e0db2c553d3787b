#include "bench_ladder.h"

#include "bench_layers.h"
#include "bench_tasks.h"
#include "grapnel/engine/device.h"
#include "grapnel/engine/random.h"
#include "grapnel/engine/tensor.h"
#include "grapnel/kernels/conv2d/steps/steps.h"
#include "grapnel/kernels/gemm/steps/steps.h"
#include "peak.h"

namespace grapnel::tools {
namespace {

// Of a step that takes a quarter of a second, two runs say enough.
constexpr double kPatience = 1000.0 / 3;

template <class Step>
Rung time_rung(const Step& step, std::int64_t multiply_adds, const Task& task, int warmup, int repeat) {
  return {step.name, step.idea, step.threads ? num_threads() : 1, 2e-9 * static_cast<double>(multiply_adds),
          measure(task, warmup, repeat, step.name, kPatience)};
}

Ladder time_gemm(int warmup, int repeat) {
  constexpr std::int64_t kRows = 448, kNaiveRows = 16, kSide = 1024;  // all rows would take the naive seconds
  Generator generator(1);
  const Tensor a = Tensor::randn({kRows, kSide}, generator), b = Tensor::randn({kSide, kSide}, generator),
               c = Tensor::empty({kRows, kSide});
  Ladder ladder{"gemm", "matrix product, 448 x 1024 x 1024", {}};
  for (const auto& step : kernels::gemm_steps::kSteps) {
    const bool naive = step.multiply == kernels::gemm_steps::naive;
    const kernels::gemm_steps::Sizes sizes{naive ? kNaiveRows : kRows, kSide, kSide};
    const Task task = [&] { step.multiply(sizes, c.data<float>(), a.data<float>(), b.data<float>()); };
    ladder.rungs.push_back(time_rung(step, sizes.m * sizes.n * sizes.k, task, warmup, repeat));
  }
  return ladder;
}

Ladder time_conv2d(int warmup, int repeat) {
  constexpr std::int64_t kChannels = 64, kSide = 56, kTaps = 3;
  constexpr kernels::Conv2d kShape{1,     kChannels, kSide, kSide, kChannels, kTaps, kTaps, kSide,
                                   kSide, 1,         1,     1,     1,         1,     1,     1};
  Generator generator(1);
  const Tensor x = Tensor::randn({kSide, kSide, kChannels}, generator),
               w = Tensor::randn({kChannels, kChannels, kTaps, kTaps}, generator),
               y = Tensor::empty({kSide, kSide, kChannels});
  const std::int64_t multiply_adds = y.numel() * kChannels * kTaps * kTaps;
  Ladder ladder{"conv2d", "convolution 3x3, 64 to 64 channels, 56 x 56 pixels", {}};
  for (const auto& step : kernels::conv2d_steps::kSteps) {
    const Tensor packed = Tensor::empty({static_cast<std::int64_t>(step.weights->size(kShape))});
    step.weights->pack(kShape, packed.data<float>(), w.data<float>());
    const Task task = [&] { step.convolve(kShape, y.data<float>(), x.data<float>(), packed.data<float>()); };
    ladder.rungs.push_back(time_rung(step, multiply_adds, task, warmup, repeat));
  }
  return ladder;
}

}  // namespace

double Rung::speed() const {
  return 1e3 * gflop / quantile(times, 0.5);
}

Ladders time_ladders(int warmup, int repeat) {
  return {peak_gflops(), {time_gemm(warmup, repeat), time_conv2d(warmup, repeat)}};
}

Json to_json(const Ladders& ladders) {
  Json list = Json::array();
  for (const Ladder& ladder : ladders.ladders) {
    Json steps = Json::array();
    for (const Rung& rung : ladder.rungs) {
      const double speed = rung.speed();
      steps.push_back({{"name", rung.name},
                       {"idea", rung.idea},
                       {"threads", rung.threads},
                       {"gflop", rung.gflop},
                       {"median_ms", quantile(rung.times, 0.5)},
                       {"gflops", speed},
                       {"share", speed / ladders.peak},
                       {"times_ms", rung.times}});
    }
    list.push_back({{"name", ladder.name}, {"work", ladder.work}, {"steps", steps}});
  }
  return {{"threads", num_threads()},
          {"kernels", kernel_name()},
          {"peak_gflops", ladders.peak},
          {"ladders", list}};
}

std::string to_string(const Ladders& ladders) {
  std::string text =
      format("%d threads, %s kernels, peak %.1f GFLOP/s\n", num_threads(), kernel_name(), ladders.peak);
  for (const Ladder& ladder : ladders.ladders) {
    text += format("\n%s\n%-12s %7s %10s %9s %7s %6s  %s\n", ladder.work.c_str(), "step", "threads", "ms",
                   "GFLOP/s", "% peak", "gain", "idea");
    double before = 0;
    for (const Rung& rung : ladder.rungs) {
      const double speed = rung.speed();
      text += format("%-12s %7d %10.3f %9.1f %7.1f %6s  %s\n", rung.name.c_str(), rung.threads,
                     quantile(rung.times, 0.5), speed, 100 * speed / ladders.peak,
                     before > 0 ? format("%.1fx", speed / before).c_str() : "", rung.idea.c_str());
      before = speed;
    }
  }
  return text;
}

}  // namespace grapnel::tools
