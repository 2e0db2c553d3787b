// grapnel run: raw tensors through a network and back, for comparison with another implementation.
#include <filesystem>
#include <iostream>
#include <set>

#include "commands.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/viz/npy.h"
#include "model.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct RunOptions {
  ModelOptions model;
  std::string input, output, labels, input_grad, grads, memory_format = "nchw";
  std::vector<std::string> captures, captured_grads;
  std::int64_t target = -1;
  std::uint64_t seed = 0;
  bool train = false, json = false;

  bool goes_backward() const { return target >= 0 || !labels.empty(); }
};

/// The output of a layer, or its gradient, and the file it goes to.
struct Capture {
  std::string layer, file;
  bool gradient;
  Tensor output;
  ScopedHook hook;
};

std::vector<Capture> parse_captures(const RunOptions& options) {
  std::vector<Capture> captures;
  for (const bool gradient : {false, true})
    for (const std::string& text : gradient ? options.captured_grads : options.captures) {
      const std::size_t equals = text.find('=');
      if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
        throw NameError("\"" + text + "\": a capture is written LAYER=FILE.npy");
      captures.push_back({text.substr(0, equals), text.substr(equals + 1), gradient, {}, {}});
    }
  return captures;
}

void check_request(const RunOptions& options, const std::vector<Capture>& captures) {
  if (!options.goes_backward() &&
      !(options.captured_grads.empty() && options.input_grad.empty() && options.grads.empty()))
    throw NameError("a gradient needs --target CLASS or --labels FILE, to know of what");
  std::vector<std::string> files{options.output, options.input_grad, options.grads};
  for (const Capture& capture : captures) files.push_back(capture.file);
  std::set<std::string> taken;
  for (const std::string& file : files) {
    if (file.empty()) continue;
    check_output(file);
    if (!taken.insert(std::filesystem::absolute(file).lexically_normal().string()).second)
      throw FileError(file + ": is named for two results");
  }
}

void install(nn::Module& net, std::vector<Capture>& captures) {
  for (Capture& capture : captures)
    capture.hook =
        net.at(capture.layer)
            .register_forward_hook(
                [&capture](nn::Module&, const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
                  capture.output = outputs.at(0);
                  if (capture.gradient) capture.output.retain_grad();
                  return std::nullopt;
                },
                {.name = "run --capture"});
}

Tensor read_input(const RunOptions& options) {
  const Tensor x = viz::read_npy(options.input).to(DType::float32);
  if (x.rank() != 4 || x.size(1) != 3)
    throw ShapeError(options.input + ": expected a batch (N,3,H,W), got " + to_string(x.shape()));
  const bool nhwc = options.memory_format == "nhwc";
  return x.contiguous(nhwc ? MemoryFormat::channels_last : MemoryFormat::contiguous);
}

/// What the backward pass starts from: the mean cross entropy, or the sum of one class's logits.
Tensor objective(const RunOptions& options, const Tensor& logits) {
  if (options.target >= 0) {
    if (options.target >= logits.size(1))
      throw NameError("there is no class " + std::to_string(options.target) + "; classes go from 0 to " +
                      std::to_string(logits.size(1) - 1));
    return sum(select(logits, 1, options.target));
  }
  const Tensor labels = viz::read_npy(options.labels);
  if (labels.dtype() != DType::int64 || labels.shape() != Shape{logits.size(0)})
    throw ShapeError(options.labels + ": expected " + std::to_string(logits.size(0)) + " int64 labels, got " +
                     std::string(name(labels.dtype())) + " " + to_string(labels.shape()));
  return cross_entropy(logits, labels);
}

void write_results(const RunOptions& options, const std::vector<Capture>& captures, nn::Module& net,
                   const Tensor& x, const Tensor& logits) {
  if (!options.output.empty()) viz::write_npy(options.output, logits);
  for (const Capture& capture : captures) {
    const Tensor value = capture.gradient ? capture.output.grad() : capture.output;
    if (!value.defined())
      throw AutogradError("the output of " + capture.layer + " has no influence on what was differentiated");
    viz::write_npy(capture.file, value);
  }
  if (!options.input_grad.empty()) viz::write_npy(options.input_grad, x.grad());
  if (options.grads.empty()) return;
  weights::NamedTensors gradients;
  for (const auto& [name, parameter] : net.named_parameters()) gradients.emplace_back(name, parameter.grad());
  weights::write_safetensors(options.grads, gradients);
}

void run(const RunOptions& options) {
  std::vector<Capture> captures = parse_captures(options);
  check_request(options, captures);
  const Tensor x = read_input(options);
  const Model model = load_model(options.model);
  install(*model.net, captures);
  model.net->train(options.train);
  default_generator() = Generator(options.seed);

  x.set_requires_grad(!options.input_grad.empty());
  const GradMode mode(options.goes_backward());
  const Tensor logits = (*model.net)(x);
  Tensor loss;
  if (options.goes_backward()) {
    loss = objective(options, logits);
    loss.backward();
  }
  write_results(options, captures, *model.net, x, logits);

  const bool has_loss = !options.labels.empty();
  if (options.json) {
    Json report{{"model", model.name}, {"weights", model.weights}, {"output_shape", to_json(logits.shape())}};
    report["classes"] = argmax(logits, 1).to_vector<std::int64_t>();
    if (has_loss) report["loss"] = loss.item();
    print(report);
  } else {
    std::cout << "output " << to_string(logits.shape()) << '\n';
    if (has_loss) std::cout << "loss " << Json(static_cast<float>(loss.item())).dump() << '\n';
  }
}

}  // namespace

void add_run(CLI::App& program) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App& command = *program.add_subcommand("run", "Raw tensors through a network and back");
  add_model_options(command, options->model);
  command.add_option("--input", options->input, "the batch (N,3,H,W)")->required()->type_name("X.npy");
  command.add_option("--output", options->output, "where the logits (N,classes) go")->type_name("Y.npy");
  const auto target = command.add_option("--target", options->target,
                                         "go backward from the sum over the batch of this class's logits");
  target->check(CLI::NonNegativeNumber)->type_name("CLASS");
  command
      .add_option("--labels", options->labels,
                  "go backward from the mean cross entropy with these int64 labels (N), and tell it")
      ->excludes(target)
      ->type_name("LABELS.npy");
  command.add_flag("--train", options->train,
                   "train mode: batch norm uses the batch's statistics, dropout is random");
  command.add_option("--seed", options->seed, "of dropout's random numbers")
      ->type_name("N")
      ->capture_default_str();
  const auto repeatable = [](CLI::Option* option) {
    option->allow_extra_args(false)->type_name("LAYER=F.npy");
  };
  repeatable(
      command.add_option("--capture", options->captures,
                         "write a layer's output, as the layer returned it; of several calls the last"));
  repeatable(command.add_option("--capture-grad", options->captured_grads,
                                "write the gradient at a layer's output"));
  command.add_option("--input-grad", options->input_grad, "where the input's gradient goes")
      ->type_name("F.npy");
  command.add_option("--grads", options->grads, "where every parameter's gradient goes, by name")
      ->type_name("F.safetensors");
  command.add_option("--memory-format", options->memory_format, "order in memory of the input: nchw or nhwc")
      ->check(CLI::IsMember({"nchw", "nhwc"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer(
      "Every array is written row by row in logical order (N,C,H,W).\n"
      "Example: grapnel run --model resnet18 --weights w.pth --input x.npy --output y.npy \\\n"
      "           --target 207 --capture layer4=a.npy --capture-grad layer4=g.npy --grads g.safetensors");
  command.callback([options] { run(*options); });
}

}  // namespace grapnel::tools
