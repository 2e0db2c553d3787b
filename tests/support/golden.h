// Reading golden files (../golden/README.md has the formats) and judging a tensor by its digest.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "grapnel/engine/tensor.h"
#include "support/formula.h"

namespace grapnel::testing {

// --- networks ---

struct GoldenDigest {
  std::string name;
  Shape shape;
  Digest digest;
};

/// What PyTorch computed in one mode: "eval", "train", or "large" (the logits of one larger picture, and
/// nothing else).
struct GoldenMode {
  double loss = 0;
  Shape logits_shape;
  std::vector<double> logits;
  std::vector<GoldenDigest> activations;  // of the leaf modules, in the order they ran
  std::vector<GoldenDigest> gradients;    // of "input" and of every parameter
  std::vector<GoldenDigest> statistics;   // buffers after the step; train mode only
};

struct GoldenNetwork {
  std::string input_name, large_input_name;
  Shape input_shape, large_input_shape;
  std::map<std::string, GoldenMode> modes;
};

/// Reads ../golden/NET.txt. Throws std::runtime_error naming file and line.
GoldenNetwork read_network(const std::string& net);

/// Twenty steps of training a ResNet18: the loss before each, the state after the last.
struct GoldenTraining {
  std::vector<double> losses;
  std::vector<GoldenDigest> state;
};

/// Reads ../golden/training_WIDTH.txt. Throws std::runtime_error naming file and line.
GoldenTraining read_training(std::int64_t width);

/// ||tensor - expected|| / ||expected||, estimated without bias from the projections, or the relative
/// difference of the norms where that is larger; infinite if the shapes differ or the tensor holds a NaN.
double relative_error(const Tensor& tensor, const GoldenDigest& expected);

/// ||tensor - expected|| / ||expected||.
double relative_error(const Tensor& tensor, const std::vector<double>& expected);

// --- operations ---

struct GoldenInput {
  std::string kind;  // real, constant, steps or index, as in make_ops.py
  Shape shape;
  double scale, shift;  // for steps and index: how many values, and the first

  bool differentiated() const { return kind == "real" || kind == "steps"; }
  /// The values; `name` is that of the case and the input's number.
  Tensor make(const std::string& name, DType type) const;
};

struct GoldenValues {
  Shape shape;
  std::vector<double> values;
};

struct GoldenOperation {
  std::string name;
  std::int64_t longest_sum;  // terms of an output or a gradient, at most
  std::vector<GoldenInput> inputs;
  std::vector<GoldenValues> outputs;
  std::vector<GoldenValues> gradients;  // of the differentiated inputs, for upstream(i) on output i
};

/// Reads ../golden/ops.txt. Throws std::runtime_error naming file and line.
std::vector<GoldenOperation> read_operations();

/// Lines of a text file in ../golden, but for comments ("#"). Throws std::runtime_error if it cannot be read.
std::vector<std::string> read_lines(const std::string& file);

}  // namespace grapnel::testing
