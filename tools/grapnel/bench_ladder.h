// The teaching ladders of kernels/gemm/steps and kernels/conv2d/steps, timed step by step.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "output.h"

namespace grapnel::tools {

struct Rung {
  std::string name, idea;
  int threads;
  double gflop;               ///< of the definition, whatever a step really does
  std::vector<double> times;  ///< ms of each run

  double speed() const;  ///< GFLOP/s, of the median
};

struct Ladder {
  std::string name, work;  ///< "gemm", and what it computes
  std::vector<Rung> rungs;
};

struct Ladders {
  double peak;  ///< GFLOP/s that num_threads() threads can multiply and add (peak.h)
  std::vector<Ladder> ladders;
};

/// Runs every step on a matrix product of 448 x 1024 x 1024 (the naive one on its first rows) and on a
/// convolution of 3x3, 64 to 64 channels at 56x56. Weights are packed before, as a network does.
Ladders time_ladders(int warmup, int repeat);

Json to_json(const Ladders& ladders);
/// A table for each ladder.
std::string to_string(const Ladders& ladders);
/// A bar for each step, as an SVG file.
void write_plot(const std::filesystem::path& path, const Ladders& ladders);

}  // namespace grapnel::tools
