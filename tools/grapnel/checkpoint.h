// A training run on disk: what to go on from, and how far it was.
#pragma once

#include <filesystem>

#include "output.h"
#include "trainer.h"

namespace grapnel::tools {

/// How far a run is: before batch `batch` of epoch `epoch`, and the sums over the epoch's batches so far.
struct Position {
  int epoch = 0;
  std::int64_t batch = 0, seen = 0, correct = 0;
  double loss_sum = 0;  ///< of single pictures
};

/// Written whole or not at all. `settings` is everything a resumed run must have in common with this one.
void write_checkpoint(const std::filesystem::path& path, Trainer& trainer, const Json& settings,
                      const Position& position);

/// Throws FileError if the file is no checkpoint or was written with other settings, naming each, and
/// NameError if it is of another network; the trainer is then of no use.
Position read_checkpoint(const std::filesystem::path& path, Trainer& trainer, const Json& settings);

}  // namespace grapnel::tools
