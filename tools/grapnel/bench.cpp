// grapnel bench: how long inference, a Grad-CAM or a training step take.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>

#include "commands.h"
#include "grapnel/engine/device.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/sgd.h"
#include "grapnel/nn/summary.h"
#include "grapnel/viz/capture.h"
#include "grapnel/viz/explain.h"
#include "model.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct BenchOptions {
  ModelOptions model;
  nn::NetOptions size;
  std::int64_t batch = 1, picture = 224;
  int repeat = 20, warmup = 3;
  std::string task = "infer";
  bool full_backward = false, json = false;
};

using Task = std::function<void()>;

Task make_infer(nn::Module& net, const Tensor& x) {
  return [&net, x] {
    const InferenceMode inference;
    net(x);
  };
}

/// Forward, the best class's gradient at the layer, and the map for each picture of the batch.
Task make_gradcam(nn::Module& net, const Tensor& x, const std::string& layer) {
  return [&net, x, layer] {
    const viz::Method method = viz::Method::gradcam;
    for (std::int64_t i = 0; i < x.size(0); ++i) {
      viz::Observation seen(net, narrow(x, 0, i, 1), viz::observe_for({&method, 1}, {layer}));
      viz::explain(seen, method, viz::resolve_targets("top1", seen.logits()).front());
    }
  };
}

/// The same the way tutorials do it: the gradient runs through the whole net, and a hook picks it up.
Task make_gradcam_full(nn::Module& net, const Tensor& x, const std::string& layer) {
  return [&net, x, layer] {
    const viz::Capture seen(net.at(layer), viz::CaptureMode::alias);
    const Tensor logits = net(x);
    sum(amax(logits, {1})).backward();
    const NoGrad no_grad;
    const Tensor map = relu(sum(mean(seen.gradient(), {2, 3}, true) * seen.activation(), {1}, true));
    interpolate(map, x.size(2), x.size(3), Resample::bilinear);
    net.zero_grad();
  };
}

/// Forward in train mode, cross entropy, backward, and one step of SGD with momentum.
Task make_train(nn::Module& net, const Tensor& x, std::int64_t classes) {
  net.train();
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < x.size(0); ++i) labels.push_back(i % classes);
  const Tensor wanted = Tensor::from(std::span<const std::int64_t>(labels), {x.size(0)});
  const nn::SGDOptions settings{.lr = 1e-3, .momentum = 0.9, .weight_decay = 1e-4};
  const auto optimizer = std::make_shared<nn::SGD>(net.parameters(), settings);
  return [&net, x, wanted, optimizer] {
    cross_entropy(net(x), wanted).backward();
    optimizer->step();
    optimizer->zero_grad();
  };
}

Task make_task(const BenchOptions& options, const Model& model, const Tensor& x) {
  const std::string layer = nn::default_cam_layer(model.name);
  if (options.task == "train") return make_train(*model.net, x, model.num_classes);
  if (options.task == "infer") return make_infer(*model.net, x);
  return options.full_backward ? make_gradcam_full(*model.net, x, layer) : make_gradcam(*model.net, x, layer);
}

/// Milliseconds of each run after warm-up.
std::vector<double> measure(const BenchOptions& options, const Task& task) {
  std::vector<double> times;
  Progress progress(static_cast<std::size_t>(options.warmup + options.repeat));
  for (int i = 0; i < options.warmup + options.repeat; ++i) {
    progress.step(options.task);
    const auto start = std::chrono::steady_clock::now();
    task();
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    if (i >= options.warmup) times.push_back(time.count());
  }
  return times;
}

/// Interpolated between neighbours, as numpy.quantile does.
double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

/// The most memory of this process that was resident at one time.
double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void bench(const BenchOptions& options) {
  const Model model = load_or_init_model(options.model, options.size);
  Generator generator(1);
  const Tensor x = Tensor::randn({options.batch, 3, options.picture, options.picture}, generator);
  const std::int64_t multiply_adds = nn::summarize(*model.net, x.shape()).multiply_adds;
  const std::vector<double> times = measure(options, make_task(options, model, x));
  const double median = quantile(times, 0.5), p10 = quantile(times, 0.1), p90 = quantile(times, 0.9);
  const double images_per_s = static_cast<double>(options.batch) / median * 1e3;
  // A training step is the forward pass and two more of its size: gradients of inputs and of weights.
  const double gflops =
      2e-6 * static_cast<double>(multiply_adds) * (options.task == "train" ? 3 : 1) / median;

  if (options.json) {
    print({{"model", model.name},
           {"task", options.task},
           {"batch", options.batch},
           {"size", options.picture},
           {"threads", num_threads()},
           {"kernels", kernel_name()},
           {"median_ms", median},
           {"p10_ms", p10},
           {"p90_ms", p90},
           {"images_per_s", images_per_s},
           {"gflops", gflops},
           {"peak_mib", peak_mib()},
           {"times_ms", times}});
    return;
  }
  char line[160];
  std::snprintf(line, sizeof line, "median %.2f ms (p10 %.2f, p90 %.2f), %.1f images/s, %.1f GFLOP/s", median,
                p10, p90, images_per_s, gflops);
  std::cout << model.name << " " << options.task << ", batch " << options.batch << ", " << num_threads()
            << " threads, " << kernel_name() << " kernels: " << line << '\n';
}

}  // namespace

void add_bench(CLI::App& program) {
  const auto options = std::make_shared<BenchOptions>();
  CLI::App& command = *program.add_subcommand("bench", "How long inference, Grad-CAM or training take");
  add_model_options(command, options->model);
  add_size_options(command, options->size);
  const auto number = [&command](const char* name, auto& value, int least, int most, const char* help) {
    command.add_option(name, value, help)
        ->check(CLI::Range(least, most))
        ->type_name("N")
        ->capture_default_str();
  };
  number("--batch", options->batch, 1, 65536, "pictures at once");
  number("--size", options->picture, 1, 8192, "height and width of the input");
  number("--repeat", options->repeat, 1, 1'000'000, "timed runs");
  number("--warmup", options->warmup, 0, 1'000'000, "runs before them");
  command.add_option("--task", options->task, "infer, gradcam (picture by picture) or train")
      ->check(CLI::IsMember({"infer", "gradcam", "train"}))
      ->type_name("TASK")
      ->capture_default_str();
  command.add_flag(
      "--full-backward", options->full_backward,
      "gradcam: the gradient goes through the whole net and a hook picks it up, as in tutorials");
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer(
      "Without --weights the weights are random. GFLOP/s count two for each multiply-add of convolutions "
      "and\n"
      "linear layers in the forward pass, three times as much for train.\n"
      "Example: grapnel bench --model resnet18 --batch 1 --threads 2 --task infer --json");
  command.callback([options] { bench(*options); });
}

}  // namespace grapnel::tools
