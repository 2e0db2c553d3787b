#include "training_run.h"

#include <chrono>
#include <iostream>

#include "card.h"
#include "curve.h"
#include "evaluation.h"
#include "grapnel/engine/error.h"
#include "grapnel/weights/weights.h"

namespace grapnel::tools {
namespace {

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
  if (options.width.value_or(settings.width) != settings.width)
    throw NameError(options.init + ": has width " + std::to_string(settings.width) + ", --width says " +
                    std::to_string(*options.width));
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
          {"--erase", options.erase},
          {"--cutmix", options.cutmix},
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

}  // namespace

TrainingRun::TrainingRun(const TrainOptions& options, const PictureSet& pictures,
                         const PictureSet* validation)
    : options_(options),
      classes_(pictures.class_names()),
      net_(starting_net(options_, static_cast<std::int64_t>(classes_.size()))),
      settings_(settings_of(options_, pictures)),
      loader_(pictures, loader_options(true)),
      trainer_(options_.settings, net_, static_cast<std::int64_t>(loader_.batches())),
      log_(options_.beside(".jsonl")) {
  place(*net_, options_.settings.device);
  if (validation) validation_.emplace(*validation, loader_options(false));
  if (options_.resume) position_ = read_checkpoint(options_.checkpoint(), trainer_, settings_);
  log_.begin(position_.epoch);
}

void TrainingRun::to_the_end(const std::atomic<bool>& stop) {
  while (position_.epoch < options_.settings.epochs) {
    epoch(stop);
    position_ = {.epoch = position_.epoch + 1};
    save();
  }
  write_curve(options_.beside(".svg"), log_.lines());
}

LoaderOptions TrainingRun::loader_options(bool training) const {
  return {.batch = options_.settings.batch,
          .training = training,
          .augment = options_.augment(),
          .cutmix = training ? options_.cutmix : 0,
          .preprocess = preprocess(),
          .workers = options_.workers,
          .seed = options_.settings.seed,
          .skip_bad = options_.skip_bad};
}

void TrainingRun::epoch(const std::atomic<bool>& stop) {
  Status status(
      "epoch " + std::to_string(position_.epoch + 1) + "/" + std::to_string(options_.settings.epochs),
      static_cast<std::size_t>(loader_.batches()), position_.batch);
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t seen_before = position_.seen;
  train_epoch(stop, status);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  Json line{{"epoch", position_.epoch + 1},
            {"loss", loss()},
            {"accuracy", accuracy()},
            {"lr", trainer_.lr()},
            {"images_per_s", static_cast<double>(position_.seen - seen_before) / time.count()}};
  if (validation_) validate(stop, status, line);
  status.clear();
  log_.add(line);
  if (!options_.json) std::cout << line.dump() << std::endl;
}

void TrainingRun::train_epoch(const std::atomic<bool>& stop, Status& status) {
  loader_.start(position_.epoch, static_cast<int>(position_.batch));
  while (const auto batch = loader_.next()) {
    const Trainer::Result result =
        trainer_.step(batch->pictures, batch->labels, batch->other_labels, batch->other_share);
    const std::int64_t count = batch->labels.size(0);
    position_.loss_sum += result.loss * static_cast<double>(count);
    position_.correct += result.correct;
    position_.seen += count;
    position_.batch = batch->number + 1;
    status.step(count, loss(), accuracy(), options_.settings.epochs - position_.epoch - 1);
    if (stop) interrupt();
  }
  if (position_.seen == 0) throw FileError(options_.folder + ": none of its pictures can be read");
}

void TrainingRun::validate(const std::atomic<bool>& stop, Status& status, Json& line) {
  const Evaluation found = evaluate(*net_, *validation_, classes_.size(), [&] {
    status.note("validation");
    if (stop) interrupt();
  });
  line["val_loss"] = found.loss();
  line["val_accuracy"] = found.accuracy();
}

void TrainingRun::interrupt() {
  write_checkpoint(options_.checkpoint(), trainer_, settings_, position_);
  throw Interrupted("stopped in epoch " + std::to_string(position_.epoch + 1) +
                    "; the same command with --resume goes on");
}

/// The model first: a checkpoint promises that what came before it is on disk.
void TrainingRun::save() {
  Metadata metadata;
  write_card(metadata, {options_.settings.model, preprocess(), classes_});
  metadata["width"] = std::to_string(options_.settings.width);
  metadata["command"] = command_of(settings_);
  metadata["epoch"] = std::to_string(position_.epoch);
  if (validation_) metadata["val_accuracy"] = log_.lines().back().at("val_accuracy").dump();
  weights::write_safetensors(options_.out, net_->state_dict(), metadata);
  write_checkpoint(options_.checkpoint(), trainer_, settings_, position_);
}

}  // namespace grapnel::tools
