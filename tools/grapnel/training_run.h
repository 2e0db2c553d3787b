// A training run with its data and its files: what `grapnel train` does between its options and its last
// line.
//
// Read next: trainer.h (one step), loader.h (where batches come from), checkpoint.h (what a resumed run
// reads).
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint.h"
#include "loader.h"
#include "train_log.h"
#include "trainer.h"

namespace grapnel::tools {

/// The command line, defaults filled in.
struct TrainOptions {
  TrainSettings settings;
  double crop_scale = 0.25, jitter = 0, erase = 0, cutmix = 0;
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
            .saturation = jitter,
            .erase = erase};
  }
  std::filesystem::path beside(const char* ending) const {
    return std::filesystem::path(out).replace_extension(ending);
  }
  std::filesystem::path checkpoint() const { return beside(".checkpoint"); }
};

class TrainingRun {
 public:
  /// Builds or loads the network and, to resume, the state of its run. The sets must outlive the run. Throws
  /// what reading and checking those throws; no file has been changed then.
  TrainingRun(const TrainOptions& options, const PictureSet& pictures, const PictureSet* validation);

  /// All epochs that are left. After each of them the network, the log and the checkpoint are on disk. Throws
  /// Interrupted, having written a checkpoint, soon after `stop` became true.
  void to_the_end(const std::atomic<bool>& stop);

  /// Of the log, one an epoch.
  const std::vector<Json>& lines() const { return log_.lines(); }
  std::size_t skipped() const { return loader_.skipped().size(); }

 private:
  /// Random crops show things larger than they are. What is shown for judgement is cut to match, 224 out of
  /// 256 as torchvision does (Touvron et al., NeurIPS 2019).
  viz::Preprocess preprocess() const {
    const int size = options_.size;
    return {.resize = options_.crop_scale < 1 ? (8 * size + 3) / 7 : size, .crop = size};
  }
  LoaderOptions loader_options(bool training) const;
  void epoch(const std::atomic<bool>& stop);
  void train_epoch(const std::atomic<bool>& stop, Status& status);
  void validate(const std::atomic<bool>& stop, Status& status, Json& line);
  double loss() const { return position_.loss_sum / static_cast<double>(position_.seen); }
  double accuracy() const {
    return static_cast<double>(position_.correct) / static_cast<double>(position_.seen);
  }
  [[noreturn]] void interrupt();
  void save();

  TrainOptions options_;
  std::vector<std::string> classes_;
  std::shared_ptr<nn::Module> net_;
  Json settings_;  // what a resumed run must have in common with this one
  Loader loader_;
  std::optional<Loader> validation_;
  Trainer trainer_;
  TrainLog log_;
  Position position_;
};

}  // namespace grapnel::tools
