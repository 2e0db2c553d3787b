// From --model, --weights and --class-names to a network that is ready to run.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grapnel/nn/models.h"
#include "grapnel/viz/class_names.h"
#include "grapnel/viz/transforms.h"
#include "grapnel/weights/weights.h"
#include "output.h"

namespace grapnel::tools {

struct ModelOptions {
  std::string name, weights, class_names;
  Device device = {};
};

/// --threads.
void add_threads_option(CLI::App& command);
/// --device and --precision.
void add_device_option(CLI::App& command, Device& device);
/// --model, --weights, --device, --precision and --threads.
void add_model_options(CLI::App& command, ModelOptions& options);
/// --class-names.
void add_class_names_option(CLI::App& command, ModelOptions& options);
/// --num-classes and --width, of a network without a file.
void add_size_options(CLI::App& command, nn::NetOptions& size);

struct Model {
  std::string name;
  std::string weights;  ///< the file, or "builtin"; empty if they are random
  std::shared_ptr<nn::Module> net;
  std::int64_t num_classes;
  viz::Preprocess preprocess = {};            ///< as the file says, else the usual one
  std::vector<std::string> class_names = {};  ///< as the file says, or empty
  HookHandle inputs_move = {};                ///< to the network's device
};

/// Moves a network to a device, and its inputs when they come, as long as the hook stays that it gives back.
HookHandle place(nn::Module& net, Device device);

/// The network in eval mode and on its device, its size taken from the weights. Without --weights the
/// published file is looked for where tools/get_weights.sh puts it; without --model the file tells which it
/// is; without both it is the built-in one. Throws FileError or NameError that says what to do.
Model load_model(const ModelOptions& options);

/// The same with random weights of a fixed seed if no --weights were given.
Model load_or_init_model(const ModelOptions& options, const nn::NetOptions& size);

/// The network whose state has exactly these names and shapes; nothing if there is none.
std::optional<std::string> recognise(const weights::NamedTensors& state);

/// The names of the model's outputs: --class-names, else the file's own, else ImageNet's for 1000 outputs,
/// else "class 7". Throws NameError if their numbers differ.
viz::ClassNames class_names(const ModelOptions& options, const Model& model);

struct Prediction {
  int index;
  double probability, logit;
};

/// {index, label, wordnet_id if there is one, probability, logit}.
Json to_json(const Prediction& prediction, const viz::ClassNames& names);

/// All classes of logits (1, classes), the most probable first. Throws Error if there is a NaN.
std::vector<Prediction> ranked(const Tensor& logits);

}  // namespace grapnel::tools
