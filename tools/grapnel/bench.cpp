// grapnel bench: how long inference, a Grad-CAM, gradients or a training step take, whole or by layer; and
// how the kernels became fast (bench_ladder.h). What is timed is in bench_tasks.cpp.
#include <sys/resource.h>

#include <cstdio>
#include <iostream>
#include <set>

#include "bench_ladder.h"
#include "bench_layers.h"
#include "bench_tasks.h"
#include "commands.h"
#include "grapnel/engine/device.h"
#include "grapnel/engine/random.h"
#include "peak.h"

namespace grapnel::tools {
namespace {

struct BenchOptions {
  ModelOptions model;
  nn::NetOptions size;
  std::int64_t batch = 1, picture = 224;
  int repeat = 20, warmup = 3;
  std::string task = "infer";
  bool full_backward = false, layers = false, serve = false, json = false, ladder = false;
  std::string plot;
};

/// The most memory of this process that was resident at one time.
double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// Multiply-adds of the forward pass, in units of which the gradients of inputs and of weights cost one each.
double passes(const std::string& task) {
  if (task == "train") return 3;
  return task == "backward" ? 2 : 1;
}

/// For comparisons in turns: warmed up once, then one measurement a line of standard input until it ends.
void serve(const BenchOptions& options, const Task& task) {
  measure(task, options.warmup, 0, options.task);
  std::cout << Json{{"ready", true}, {"kernels", kernel_name()}, {"threads", num_threads()}}.dump()
            << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const std::vector<double> times = measure(task, 0, options.repeat, options.task);
    std::cout << Json{{"times_ms", times}, {"peak_mib", peak_mib()}}.dump() << std::endl;
  }
}

struct Report {
  std::vector<double> times;  // ms
  double median, images_per_s, gflops, memory;
  double peak = 0;  // this and the layers: only if asked for
  LayerTimes layers = {};
};

Report make_report(const BenchOptions& options, const Model& model, const Tensor& x, const Task& task) {
  const auto multiply_adds = static_cast<double>(nn::summarize(*model.net, x.shape()).multiply_adds);
  const std::vector<double> times = measure(task, options.warmup, options.repeat, options.task);
  const double median = quantile(times, 0.5);
  Report report{times, median, static_cast<double>(options.batch) / median * 1e3,
                2e-6 * multiply_adds * passes(options.task) / median, peak_mib()};
  if (options.layers) {
    report.peak = peak_gflops();
    report.layers = time_layers(*model.net, x, options.repeat);
  }
  return report;
}

Json json_of(const BenchOptions& options, const Model& model, const Report& report) {
  Json json{{"model", model.name},
            {"task", options.task},
            {"batch", options.batch},
            {"size", options.picture},
            {"device", to_string(options.model.device)},
            {"threads", num_threads()},
            {"kernels", kernel_name()},
            {"median_ms", report.median},
            {"p10_ms", quantile(report.times, 0.1)},
            {"p90_ms", quantile(report.times, 0.9)},
            {"images_per_s", report.images_per_s},
            {"gflops", report.gflops},
            {"peak_mib", report.memory},
            {"times_ms", report.times}};
  if (options.layers) {
    json["peak_gflops"] = report.peak;
    json["layers"] = to_json(report.layers, report.peak);
    json["outside_ms"] = report.layers.outside_ms;
  }
  return json;
}

void print_text(const BenchOptions& options, const Model& model, const Report& report) {
  char line[160];
  std::snprintf(line, sizeof line, "median %.2f ms (p10 %.2f, p90 %.2f), %.1f images/s, %.1f GFLOP/s",
                report.median, quantile(report.times, 0.1), quantile(report.times, 0.9), report.images_per_s,
                report.gflops);
  std::cout << model.name << " " << options.task << ", batch " << options.batch << ", ";
  if (options.model.device == Device::cpu())
    std::cout << num_threads() << " threads, " << kernel_name() << " kernels";
  else
    std::cout << to_string(options.model.device);
  std::cout << ": " << line << '\n';
  if (!options.layers) return;
  std::snprintf(line, sizeof line, "With hooks around every layer; peak %.1f GFLOP/s:", report.peak);
  std::cout << line << '\n' << to_string(report.layers, report.peak);
}

/// Throws if an option was given that says something about a network.
void check_ladder_options(const CLI::App& command) {
  const std::set<std::string> general = {"ladder", "plot", "threads", "repeat", "warmup", "json"};
  for (const CLI::Option* option : command.get_options())
    if (option->count() > 0 && !general.contains(option->get_single_name()))
      throw Error("--ladder runs no network: leave out " + option->get_name());
}

void climb(const BenchOptions& options) {
  if (!options.plot.empty()) check_output(options.plot);
  const Ladders ladders = time_ladders(options.warmup, options.repeat);
  if (!options.plot.empty()) write_plot(options.plot, ladders);
  if (options.json)
    print(to_json(ladders));
  else
    std::cout << to_string(ladders);
}

void bench(const BenchOptions& options) {
  if (options.ladder) return climb(options);
  if (!options.plot.empty()) throw Error("--plot belongs to --ladder");
  if (options.full_backward && options.task != "gradcam")
    throw Error("--full-backward belongs to --task gradcam");
  if (options.layers && options.model.device != Device::cpu())
    throw Error("--layers compares with the peak of the CPU: it does not go with --device " +
                to_string(options.model.device));
  if (options.layers && (options.task != "infer" || options.serve))
    throw Error("--layers times a forward pass: it goes with --task infer only, and not with --serve");
  const Model model = load_or_init_model(options.model, options.size);
  Generator generator(1);
  const Device device = options.model.device;
  const Tensor x = Tensor::randn({options.batch, 3, options.picture, options.picture}, generator).to(device);
  const Task start = make_task(options.task + (options.full_backward ? "-full" : ""), model, x);
  const Task task = [&] {
    start();
    synchronize(device);
  };
  if (options.serve) return serve(options, task);
  const Report report = make_report(options, model, x, task);
  if (options.json)
    print(json_of(options, model, report));
  else
    print_text(options, model, report);
}

}  // namespace

void add_bench(CLI::App& program) {
  const auto options = std::make_shared<BenchOptions>();
  CLI::App& command = *program.add_subcommand("bench", "How long inference, gradients or training take");
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
  command
      .add_option(
          "--task", options->task,
          "infer; gradcam: forward, gradient at the usual layer, map; backward: forward and the gradient "
          "of the top logit at the input; train: forward, cross entropy, backward, SGD with momentum")
      ->check(CLI::IsMember({"infer", "gradcam", "backward", "train"}))
      ->type_name("TASK")
      ->capture_default_str();
  command.add_flag(
      "--full-backward", options->full_backward,
      "gradcam: the gradient goes through the whole net and a hook picks it up, as in tutorials");
  command.add_flag("--layers", options->layers,
                   "infer: also every layer's time, speed, share of the measured peak, and the bytes of its "
                   "input, output and weights");
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.add_flag("--serve", options->serve,
                   "warm up, then do --repeat runs for each line of standard input and answer with a line of "
                   "JSON: for comparisons in turns");
  command.add_flag("--ladder", options->ladder,
                   "instead of a network: the steps by which a matrix product and a convolution become fast, "
                   "each run --repeat times or for a third of a second");
  command.add_option("--plot", options->plot, "ladder: also a bar plot of the steps, an SVG file")
      ->type_name("FILE");
  command.footer(
      "Without --weights the weights are random. GFLOP/s count two for each multiply-add of convolutions "
      "and\n"
      "linear layers in the forward pass, twice as much for backward, three times for train.\n"
      "Example: grapnel bench --model resnet18 --batch 1 --threads 2 --task infer --json");
  command.callback([options, &command] {
    if (options->ladder) check_ladder_options(command);
    bench(*options);
  });
}

}  // namespace grapnel::tools
