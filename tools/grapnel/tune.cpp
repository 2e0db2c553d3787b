// grapnel tune: which way of computing each convolution of a network is fastest on this machine.
#include "grapnel/nn/tune.h"

#include <iostream>

#include "commands.h"
#include "grapnel/engine/random.h"
#include "grapnel/viz/file.h"
#include "model.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct TuneCommand {
  ModelOptions model;
  nn::NetOptions size;
  std::int64_t batch = 1, picture = 224;
  int rounds = 7;
  bool gradients = false, json = false;
  std::string out;
};

void run_tune(const TuneCommand& options) {
  if (!options.out.empty()) check_output(options.out);
  const Model model = load_or_init_model(options.model, options.size);
  Generator generator(1);
  const auto choices =
      tune(*model.net, Tensor::randn({options.batch, 3, options.picture, options.picture}, generator),
           options.gradients, options.rounds);
  const std::string text = to_text(choices);
  if (!options.out.empty()) viz::write_file(options.out, text);
  if (!options.json) {
    std::cout << text;
    return;
  }
  Json list = Json::array();
  for (const ConvChoice& choice : choices) {
    Json times = Json::object();
    for (const auto& [way, time] : choice.milliseconds) times[way] = time;
    list.push_back({{"convolution", choice.convolution},
                    {"variant", choice.variant},
                    {"by_shape", choice.milliseconds.front().first},
                    {"median_ms", times}});
  }
  print({{"model", model.name}, {"kernels", kernel_name()}, {"threads", num_threads()}, {"choices", list}});
}

}  // namespace

void add_tune(CLI::App& program) {
  const auto options = std::make_shared<TuneCommand>();
  CLI::App& command =
      *program.add_subcommand("tune", "Which way of computing each convolution is fastest here");
  add_model_options(command, options->model);
  add_size_options(command, options->size);
  command.add_option("--batch", options->batch, "pictures at once")
      ->check(CLI::Range(1, 65536))
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--size", options->picture, "height and width of the input")
      ->check(CLI::Range(1, 8192))
      ->type_name("PIXELS")
      ->capture_default_str();
  command.add_option("--rounds", options->rounds, "how often each way is timed, in turns")
      ->check(CLI::Range(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--gradients", options->gradients, "also those of inputs and of weights");
  command.add_option("--out", options->out, "a file for --choices of the other commands")->type_name("FILE");
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer(
      "What is not measured is decided by its shape. Choices hold for a batch, a size and a number of "
      "threads.\n"
      "Example: grapnel tune --model resnet18 --threads 2 --out resnet18.choices\n"
      "         grapnel bench --model resnet18 --threads 2 --choices resnet18.choices --layers");
  command.callback([options] { run_tune(*options); });
}

}  // namespace grapnel::tools
