// grapnel train: a network from a folder of class folders.
//
// Read next: training_run.h.
#include <atomic>
#include <csignal>
#include <iostream>

#include "commands.h"
#include "grapnel/engine/error.h"
#include "model.h"
#include "training_run.h"

namespace grapnel::tools {
namespace {

namespace fs = std::filesystem;

std::atomic<bool> interrupted{false};

/// Ctrl-C ends the run after the step at hand; a second one ends the program.
class InterruptScope {
 public:
  InterruptScope() {
    interrupted = false;
    previous_ = std::signal(SIGINT, [](int) {
      interrupted = true;
      std::signal(SIGINT, SIG_DFL);
    });
  }
  ~InterruptScope() { std::signal(SIGINT, previous_); }

 private:
  void (*previous_)(int);
};

void train(TrainOptions& options) {
  const InterruptScope interrupt;
  if (fs::path(options.out).extension() != ".safetensors")
    throw FileError(options.out + ": only safetensors files are written; end the name in .safetensors");
  for (const fs::path& path :
       {fs::path(options.out), options.checkpoint(), options.beside(".jsonl"), options.beside(".svg")})
    check_output(path);
  if (!options.resume && fs::exists(options.checkpoint()))
    throw FileError(options.checkpoint().string() +
                    ": holds a run already; go on with --resume, or remove it");
  options.settings.lr = options.lr.value_or(options.settings.optimizer == "sgd" ? 0.1 : 1e-3);
  const PictureSet pictures = PictureSet::open(options.folder);
  std::optional<PictureSet> validation;
  if (!options.validation.empty()) {
    validation = PictureSet::open(options.validation);
    if (validation->class_names() != pictures.class_names())
      throw NameError(options.validation + ": its class folders are not those of " + options.folder);
  }
  TrainingRun run(options, pictures, validation ? &*validation : nullptr);
  run.to_the_end(interrupted);
  const Json& last = run.lines().back();
  if (options.json)
    print(
        {{"model", options.out}, {"epochs", run.lines().size()}, {"skipped", run.skipped()}, {"last", last}});
  else
    std::cout << options.out << ": " << run.lines().size() << " epochs, log and loss curve beside it"
              << (run.skipped() ? ", " + std::to_string(run.skipped()) + " broken pictures skipped" : "")
              << '\n';
}

void add_run_options(CLI::App& command, TrainOptions& options) {
  TrainSettings& settings = options.settings;
  const auto number = [&command](const char* name, auto& value, int least, int most, const char* help) {
    command.add_option(name, value, help)
        ->check(CLI::Range(least, most))
        ->type_name("N")
        ->capture_default_str();
  };
  const auto real = [&command](const char* name, auto& value, double least, double most, const char* help) {
    return command.add_option(name, value, help)->check(CLI::Range(least, most))->type_name("X");
  };
  const auto choice = [&command](const char* name, std::string& value, std::vector<std::string> choices,
                                 const std::string& help) {
    command.add_option(name, value, help)
        ->check(CLI::IsMember(choices))
        ->type_name("NAME")
        ->capture_default_str();
  };
  choice("--model", settings.model, nn::model_names(), "resnet18, resnet34 or vgg16");
  command.add_option("--width", options.width, "channels of the first layer; 16, or as in --init")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  number("--size", options.size, 8, 4096, "height and width of the input");
  number("--epochs", settings.epochs, 1, 100000, "how often every picture is seen");
  number("--batch", settings.batch, 1, 65536, "pictures a step");
  choice("--optim", settings.optimizer, {"sgd", "adam", "adamw"},
         "sgd (with Nesterov momentum), adam or adamw");
  real("--lr", options.lr, 0, 1e6, "learning rate; 0.1 for sgd, else 0.001");
  real("--momentum", settings.momentum, 0, 1, "of sgd")->capture_default_str();
  real("--weight-decay", settings.weight_decay, 0, 1e6, "not of biases and batch norm")
      ->capture_default_str();
  choice("--schedule", settings.schedule, {"cosine", "step", "one-cycle", "constant"},
         "of the learning rate: cosine to zero; step, a tenth after each third; one-cycle; constant");
  number("--warmup", settings.warmup, 0, 100000,
         "epochs over which the learning rate rises; not of one-cycle");
  real("--label-smoothing", settings.label_smoothing, 0, 1, "share of the target spread over all classes")
      ->capture_default_str();
  real("--clip", settings.clip, 0, 1e30, "largest norm of all gradients together; 0 is no limit")
      ->capture_default_str();
  command
      .add_option("--freeze", settings.frozen,
                  "parameters whose names begin so stay as they are, statistics too; may be repeated")
      ->allow_extra_args(false)
      ->type_name("PREFIX");
  command.add_option("--seed", settings.seed, "of all random numbers")->type_name("N")->capture_default_str();
}

void add_data_options(CLI::App& command, TrainOptions& options) {
  command
      .add_option("folder", options.folder, "a folder, or a .tar, with one folder of pictures for each class")
      ->required()
      ->type_name("DIR");
  command.add_option("--val", options.validation, "a folder like DIR, evaluated after each epoch")
      ->type_name("DIR");
  command
      .add_option("--init", options.init, "weights to start from; with other classes all but the last layer")
      ->type_name("FILE");
  command
      .add_option("--crop-scale", options.crop_scale,
                  "smallest share of a picture that a random crop shows; 1 cuts nothing")
      ->check(CLI::Range(0.01, 1.0))
      ->type_name("X")
      ->capture_default_str();
  command.add_option("--pad", options.pad, "shift pictures at random by so many pixels of the input")
      ->check(CLI::Range(0, 4096))
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--no-flip", options.no_flip, "do not mirror pictures at random");
  command.add_option("--jitter", options.jitter, "how far brightness, contrast and saturation may change")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("X")
      ->capture_default_str();
  command
      .add_option("--erase", options.erase, "probability that a rectangle of a picture is turned into noise")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P")
      ->capture_default_str();
  command
      .add_option("--cutmix", options.cutmix, "probability that the pictures of a batch exchange rectangles")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P")
      ->capture_default_str();
  command.add_option("--workers", options.workers, "threads that read and prepare pictures")
      ->check(CLI::Range(1, 256))
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--skip-bad", options.skip_bad, "leave out pictures that cannot be read, and count them");
}

}  // namespace

void add_train(CLI::App& program) {
  const auto options = std::make_shared<TrainOptions>();
  CLI::App& command = *program.add_subcommand("train", "A network from a folder of class folders");
  add_data_options(command, *options);
  add_run_options(command, *options);
  add_device_option(command, options->settings.device);
  add_threads_option(command);
  command.add_flag("--resume", options->resume, "go on from the checkpoint of the same command");
  command.add_option("--out", options->out, "the network, written after each epoch")
      ->required()
      ->type_name("MODEL.safetensors");
  command.add_flag("--json", options->json, "one JSON object at the end instead of a line an epoch");
  command.footer(
      "Beside MODEL.safetensors: .jsonl, one JSON object an epoch; .checkpoint, for --resume; .svg, loss and "
      "accuracy.\n"
      "The same command and seed give the same bits on any number of threads and workers, interrupted or "
      "not.\n"
      "Ctrl-C writes a checkpoint and ends with exit code 130.\n"
      "Example: grapnel train photos/train --val photos/test --epochs 30 --out model.safetensors");
  command.callback([options] { train(*options); });
}

}  // namespace grapnel::tools
