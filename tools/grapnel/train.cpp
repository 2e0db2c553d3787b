// grapnel train: a network from a folder of class folders.
//
// Read next: trainer.h (one step), loader.h (where batches come from), checkpoint.h (what --resume reads).
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "card.h"
#include "checkpoint.h"
#include "commands.h"
#include "curve.h"
#include "evaluation.h"
#include "model.h"
#include "train_log.h"

namespace grapnel::tools {
namespace {

namespace fs = std::filesystem;

struct TrainOptions {
  TrainSettings settings;
  double crop_scale = 0.25, jitter = 0;
  int pad = 0;
  bool no_flip = false;
  std::optional<double> lr;
  std::optional<std::int64_t> width;
  std::string folder, validation, init, out;
  int size = 64, workers = 1;
  bool skip_bad = false, resume = false, json = false;

  viz::Augment augment() const {
    return {.resized_crop = crop_scale < 1,
            .area = {crop_scale, 1},
            .pad = pad,
            .flip = no_flip ? 0 : 0.5,
            .brightness = jitter,
            .contrast = jitter,
            .saturation = jitter};
  }
  fs::path beside(const char* ending) const { return fs::path(out).replace_extension(ending); }
  fs::path checkpoint() const { return beside(".checkpoint"); }
};

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

/// The network to start from: random, or that of --init with another last layer where the classes differ.
std::shared_ptr<nn::Module> starting_net(TrainOptions& options, std::int64_t classes) {
  TrainSettings& settings = options.settings;
  default_generator() = Generator(settings.seed);
  if (options.init.empty()) {
    settings.width = options.width.value_or(settings.width);
    return nn::make_model(settings.model, {.num_classes = classes, .width = settings.width, .inplace = true});
  }
  weights::StateFile file = weights::read(options.init);
  settings.width = nn::width_of(settings.model, file.tensors);
  const auto net =
      nn::make_model(settings.model, {.num_classes = classes, .width = settings.width, .inplace = true});
  if (nn::num_classes_of(settings.model, file.tensors) != classes) {
    const std::string last = nn::last_layer(settings.model) + ".";
    std::erase_if(file.tensors, [&](const auto& entry) { return entry.first.starts_with(last); });
    for (const auto& entry : net->state_dict())
      if (entry.first.starts_with(last)) file.tensors.push_back(entry);
  }
  try {
    net->load_state_dict(file.tensors);
  } catch (const NameError& error) {
    throw NameError(options.init + ": " + error.what());
  }
  return net;
}

/// Everything that decides the bits of the result, by the name of its option.
Json settings_of(const TrainOptions& options, const PictureSet& pictures) {
  const TrainSettings& s = options.settings;
  return {{"--model", s.model},
          {"--width", s.width},
          {"--size", options.size},
          {"--epochs", s.epochs},
          {"--batch", s.batch},
          {"--optim", s.optimizer},
          {"--lr", s.lr},
          {"--momentum", s.momentum},
          {"--weight-decay", s.weight_decay},
          {"--schedule", s.schedule},
          {"--warmup", s.warmup},
          {"--label-smoothing", s.label_smoothing},
          {"--clip", s.clip},
          {"--freeze", s.frozen},
          {"--seed", s.seed},
          {"--init", options.init},
          {"--crop-scale", options.crop_scale},
          {"--pad", options.pad},
          {"--no-flip", options.no_flip},
          {"--jitter", options.jitter},
          {"--skip-bad", options.skip_bad},
          {"pictures", pictures.size()},
          {"classes", pictures.class_names()}};
}

/// The command that would do the same, without the names of this machine's files.
std::string command_of(const Json& settings) {
  std::string command = "grapnel train DIR";
  for (const auto& [key, value] : settings.items()) {
    if (!key.starts_with("--") || value == false || value == "" || key == "--init") continue;
    for (const Json& one : value.is_array() ? value : Json::array({value}))
      command +=
          " " + key + (one == true ? "" : " " + (one.is_string() ? one.get<std::string>() : one.dump()));
  }
  return command;
}

/// A run from its first epoch to its last.
class Run {
 public:
  Run(TrainOptions options, const PictureSet& pictures, const PictureSet* validation)
      : options_(std::move(options)),
        classes_(pictures.class_names()),
        net_(starting_net(options_, static_cast<std::int64_t>(classes_.size()))),
        settings_(settings_of(options_, pictures)),
        loader_(pictures, loader_options(true)),
        trainer_(options_.settings, net_, static_cast<std::int64_t>(loader_.batches())),
        log_(options_.beside(".jsonl")) {
    if (validation) validation_.emplace(*validation, loader_options(false));
    if (options_.resume) position_ = read_checkpoint(options_.checkpoint(), trainer_, settings_);
    log_.begin(position_.epoch);
  }

  void to_the_end() {
    while (position_.epoch < options_.settings.epochs) {
      epoch();
      ++position_.epoch;
      position_ = {.epoch = position_.epoch};
      save();
    }
    write_curve(options_.beside(".svg"), log_.lines());
  }

  const std::vector<Json>& lines() const { return log_.lines(); }
  std::size_t skipped() const { return loader_.skipped().size(); }

 private:
  viz::Preprocess preprocess() const { return {.resize = options_.size, .crop = options_.size}; }

  LoaderOptions loader_options(bool training) const {
    return {.batch = options_.settings.batch,
            .training = training,
            .augment = options_.augment(),
            .preprocess = preprocess(),
            .workers = options_.workers,
            .seed = options_.settings.seed,
            .skip_bad = options_.skip_bad};
  }

  void epoch() {
    Status status(
        "epoch " + std::to_string(position_.epoch + 1) + "/" + std::to_string(options_.settings.epochs),
        loader_.batches(), position_.batch);
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t seen_before = position_.seen;
    loader_.start(position_.epoch, static_cast<int>(position_.batch));
    while (const auto batch = loader_.next()) {
      const Trainer::Result result = trainer_.step(batch->pictures, batch->labels);
      const std::int64_t count = batch->labels.size(0);
      position_.loss_sum += result.loss * static_cast<double>(count);
      position_.correct += result.correct;
      position_.seen += count;
      position_.batch = batch->number + 1;
      status.step(count, loss(), accuracy(), options_.settings.epochs - position_.epoch - 1);
      if (interrupted) stop();
    }
    if (position_.seen == 0) throw FileError(options_.folder + ": none of its pictures can be read");
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    Json line{{"epoch", position_.epoch + 1},
              {"loss", loss()},
              {"accuracy", accuracy()},
              {"lr", trainer_.lr()},
              {"images_per_s", static_cast<double>(position_.seen - seen_before) / time.count()}};
    if (validation_) {
      const Evaluation found = evaluate(*net_, *validation_, classes_.size(), [&] {
        status.note("validation");
        if (interrupted) stop();
      });
      line["val_loss"] = found.loss();
      line["val_accuracy"] = found.accuracy();
    }
    status.clear();
    log_.add(line);
    if (!options_.json) std::cout << line.dump() << std::endl;
  }

  double loss() const { return position_.loss_sum / static_cast<double>(position_.seen); }
  double accuracy() const {
    return static_cast<double>(position_.correct) / static_cast<double>(position_.seen);
  }

  [[noreturn]] void stop() {
    write_checkpoint(options_.checkpoint(), trainer_, settings_, position_);
    throw Interrupted("stopped in epoch " + std::to_string(position_.epoch + 1) +
                      "; the same command with --resume goes on");
  }

  /// The model first: a checkpoint promises that what came before it is on disk.
  void save() {
    Metadata metadata;
    write_card(metadata, {options_.settings.model, preprocess(), classes_});
    metadata["width"] = std::to_string(options_.settings.width);
    metadata["command"] = command_of(settings_);
    metadata["epoch"] = std::to_string(position_.epoch);
    if (validation_) metadata["val_accuracy"] = log_.lines().back().at("val_accuracy").dump();
    weights::write_safetensors(options_.out, net_->state_dict(), metadata);
    write_checkpoint(options_.checkpoint(), trainer_, settings_, position_);
  }

  TrainOptions options_;
  std::vector<std::string> classes_;
  std::shared_ptr<nn::Module> net_;
  Json settings_;
  Loader loader_;
  std::optional<Loader> validation_;
  Trainer trainer_;
  TrainLog log_;
  Position position_;
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
  Run run(options, pictures, validation ? &*validation : nullptr);
  run.to_the_end();
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
