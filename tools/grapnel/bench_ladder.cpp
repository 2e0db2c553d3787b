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

// The first steps take a quarter of a second a run: two of them say enough.
constexpr double kPatience = 1000.0 / 3;

template <class Step>
Rung time_rung(const Step& step, const Task& task, int warmup, int repeat) {
  return {step.name, step.idea, step.threads ? num_threads() : 1,
          measure(task, warmup, repeat, step.name, kPatience)};
}

Ladder time_gemm(int warmup, int repeat) {
  constexpr kernels::gemm_steps::Sizes kSizes{512, 512, 512};
  Generator generator(1);
  const Tensor a = Tensor::randn({kSizes.m, kSizes.k}, generator),
               b = Tensor::randn({kSizes.k, kSizes.n}, generator), c = Tensor::empty({kSizes.m, kSizes.n});
  Ladder ladder{"gemm",
                "matrix product, 512 x 512 x 512",
                2e-9 * static_cast<double>(kSizes.m * kSizes.n * kSizes.k),
                {}};
  for (const auto& step : kernels::gemm_steps::kSteps) {
    const Task task = [&] { step.multiply(kSizes, c.data<float>(), a.data<float>(), b.data<float>()); };
    ladder.rungs.push_back(time_rung(step, task, warmup, repeat));
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
  Ladder ladder{"conv2d",
                "convolution 3x3, 64 to 64 channels, 56 x 56 pixels",
                2e-9 * static_cast<double>(y.numel() * kChannels * kTaps * kTaps),
                {}};
  for (const auto& step : kernels::conv2d_steps::kSteps) {
    const Tensor packed = Tensor::empty({static_cast<std::int64_t>(step.weights->size(kShape))});
    step.weights->pack(kShape, packed.data<float>(), w.data<float>());
    const Task task = [&] { step.convolve(kShape, y.data<float>(), x.data<float>(), packed.data<float>()); };
    ladder.rungs.push_back(time_rung(step, task, warmup, repeat));
  }
  return ladder;
}

}  // namespace

double Ladder::speed(const Rung& rung) const {
  return 1e3 * gflop / quantile(rung.times, 0.5);
}

Ladders time_ladders(int warmup, int repeat) {
  return {peak_gflops(), {time_gemm(warmup, repeat), time_conv2d(warmup, repeat)}};
}

Json to_json(const Ladders& ladders) {
  Json list = Json::array();
  for (const Ladder& ladder : ladders.ladders) {
    Json steps = Json::array();
    for (const Rung& rung : ladder.rungs) {
      const double speed = ladder.speed(rung);
      steps.push_back({{"name", rung.name},
                       {"idea", rung.idea},
                       {"threads", rung.threads},
                       {"median_ms", quantile(rung.times, 0.5)},
                       {"gflops", speed},
                       {"share", speed / ladders.peak},
                       {"times_ms", rung.times}});
    }
    list.push_back({{"name", ladder.name}, {"work", ladder.work}, {"gflop", ladder.gflop}, {"steps", steps}});
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
      const double speed = ladder.speed(rung);
      text += format("%-12s %7d %10.3f %9.1f %7.1f %6s  %s\n", rung.name.c_str(), rung.threads,
                     quantile(rung.times, 0.5), speed, 100 * speed / ladders.peak,
                     before > 0 ? format("%.1fx", speed / before).c_str() : "", rung.idea.c_str());
      before = speed;
    }
  }
  return text;
}

}  // namespace grapnel::tools
