#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "card.h"
#include "grapnel/engine/device.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/init.h"
#include "grapnel/weights/catalogue.h"

namespace grapnel::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBuiltin = "builtin";

/// Where tools/get_weights.sh puts the published files.
fs::path cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache && *cache) return fs::path(cache) / "grapnel";
  const char* home = std::getenv("HOME");
  return fs::path(home ? home : ".") / ".cache" / "grapnel";
}

std::string published_weights(const std::string& name) {
  nn::default_cam_layer(name);  // an unknown name is the more helpful error
  for (const weights::CatalogueEntry& entry : weights::catalogue()) {
    if (entry.name != name) continue;
    const fs::path path = cache_folder() / entry.file;
    std::error_code ignored;
    if (fs::is_regular_file(path, ignored)) return path.string();
  }
  throw NameError("no weights for " + name + ": give --weights FILE, or fetch the published ones with " +
                  "`tools/get_weights.sh " + name + "`");
}

nn::NetOptions size_of(const std::string& name, const weights::NamedTensors& state) {
  return {.num_classes = nn::num_classes_of(name, state), .width = nn::width_of(name, state)};
}

std::shared_ptr<nn::Module> make_empty(const std::string& name, const weights::NamedTensors& state) {
  const nn::SkipInit skip;
  return nn::make_model(name, size_of(name, state));
}

bool same_entries(const weights::NamedTensors& expected, const weights::NamedTensors& state) {
  return std::all_of(expected.begin(), expected.end(), [&state](const auto& entry) {
    const auto& [name, tensor] = entry;
    if (name.ends_with("num_batches_tracked")) return true;
    const auto found = std::find_if(state.begin(), state.end(),
                                    [&name = name](const auto& other) { return other.first == name; });
    return found != state.end() && found->second.shape() == tensor.shape();
  });
}

Card card_of(const std::string& path, const weights::StateFile& file) {
  try {
    return read_card(file.metadata);
  } catch (const FileError& error) {
    throw FileError(path + ": " + error.what());
  }
}

Model load(const ModelOptions& options, const std::string& path, const weights::StateFile& file) {
  const Card card = card_of(path, file);
  std::string name = options.name == kBuiltin ? "" : options.name;
  if (name.empty() && std::ranges::count(nn::model_names(), card.model) > 0) name = card.model;
  if (name.empty()) {
    const auto recognised = recognise(file.tensors);
    if (!recognised)
      throw NameError(path + ": fits none of the networks; say with --model which it is meant for, or see " +
                      "`grapnel inspect`");
    name = *recognised;
  }
  try {
    const auto net = make_empty(name, file.tensors);
    net->load_state_dict(file.tensors, true, true);
    net->eval();
    return {name,
            path,
            net,
            nn::num_classes_of(name, file.tensors),
            card.preprocess,
            card.classes,
            place(*net, options.device)};
  } catch (const NameError& error) {
    throw NameError(path + ": " + error.what());
  }
}

}  // namespace

void add_threads_option(CLI::App& command) {
  command
      .add_option_function<int>(
          "--threads", [](int threads) { set_num_threads(threads); }, "CPU threads; every core by default")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
}

void add_device_option(CLI::App& command, Device& device) {
  command
      .add_option_function<std::string>(
          "--device", [&device](const std::string& name) { device = parse_device(name); },
          "cpu, cuda or cuda:N: where the network runs; cpu by default")
      ->type_name("NAME");
  command
      .add_option_function<std::string>(
          "--precision", [](const std::string& name) { set_precision(parse_precision(name)); },
          "of products on a CUDA device: fp32, tf32 or bf16; fp32 by default")
      ->type_name("NAME");
}

void add_model_options(CLI::App& command, ModelOptions& options) {
  command
      .add_option("--model", options.name,
                  "resnet18, resnet34 or vgg16: by default what the weights fit, or builtin, a small network "
                  "of ten classes")
      ->type_name("NAME");
  command
      .add_option(
          "--weights", options.weights,
          "a .pth or .safetensors file; by default the one that tools/get_weights.sh fetched for --model")
      ->type_name("FILE");
  add_device_option(command, options.device);
  add_threads_option(command);
}

void add_class_names_option(CLI::App& command, ModelOptions& options) {
  command
      .add_option("--class-names", options.class_names,
                  "a name a line, or a JSON list; by default ImageNet's for 1000 classes")
      ->type_name("FILE");
}

void add_size_options(CLI::App& command, nn::NetOptions& size) {
  command.add_option("--num-classes", size.num_classes, "outputs of a network without --weights")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--width", size.width, "channels of the first layer, without --weights")
      ->check(CLI::Range(1, 1024))
      ->type_name("N")
      ->capture_default_str();
}

HookHandle place(nn::Module& net, Device device) {
  if (device == Device::cpu()) return {};
  net.to(device);
  return net.register_forward_pre_hook(
      [device](nn::Module&, const Tensors& inputs) -> std::optional<Tensors> {
        return Tensors{inputs.at(0).to(device)};
      });
}

Model load_model(const ModelOptions& options) {
  const bool no_name = options.name.empty() || options.name == kBuiltin;
  if (options.weights.empty() && no_name)
    return load(options, kBuiltin, weights::read(weights::builtin_model(), kBuiltin));
  if (options.name == kBuiltin)
    throw NameError("--model builtin has weights of its own; leave out --weights, or --model");
  const std::string path = options.weights.empty() ? published_weights(options.name) : options.weights;
  return load(options, path, weights::read(path, {.in_memory = true}));
}

Model load_or_init_model(const ModelOptions& options, const nn::NetOptions& size) {
  if (!options.weights.empty() || options.name.empty() || options.name == kBuiltin)
    return load_model(options);
  default_generator() = Generator(0);
  const auto net = nn::make_model(options.name, size);
  net->eval();
  return {options.name, "", net, size.num_classes, {}, {}, place(*net, options.device)};
}

std::optional<std::string> recognise(const weights::NamedTensors& state) {
  for (const std::string& name : nn::model_names()) {
    try {
      const weights::NamedTensors expected = make_empty(name, state)->state_dict();
      if (same_entries(expected, state) && same_entries(state, expected)) return name;
    } catch (const NameError&) {  // it lacks the weights that tell the size
    }
  }
  return std::nullopt;
}

viz::ClassNames class_names(const ModelOptions& options, const Model& model) {
  const auto count = static_cast<std::size_t>(model.num_classes);
  if (!options.class_names.empty()) {
    viz::ClassNames names = viz::ClassNames::from_file(options.class_names);
    if (names.size() != model.num_classes)
      throw NameError(options.class_names + ": holds " + std::to_string(names.size()) +
                      " names, but the network has " + std::to_string(count) + " outputs");
    return names;
  }
  if (model.class_names.size() == count) return viz::ClassNames(model.class_names);
  if (viz::ClassNames::imagenet().size() == model.num_classes) return viz::ClassNames::imagenet();
  std::vector<std::string> names(count);
  for (std::size_t i = 0; i < count; ++i) names[i] = "class " + std::to_string(i);
  return viz::ClassNames(names);
}

Json to_json(const Prediction& prediction, const viz::ClassNames& names) {
  Json object{{"index", prediction.index}, {"label", names.name(prediction.index)}};
  if (const std::string id = names.wordnet_id(prediction.index); !id.empty()) object["wordnet_id"] = id;
  object["probability"] = prediction.probability;
  object["logit"] = prediction.logit;
  return object;
}

std::vector<Prediction> ranked(const Tensor& logits) {
  const NoGrad no_grad;
  const Tensor scores = logits.to(Device::cpu()).to(DType::float64);
  const auto values = scores.to_vector<double>(), probabilities = softmax(scores, 1).to_vector<double>();
  std::vector<Prediction> predictions;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) throw Error("the network's output holds NaN; are these its weights?");
    predictions.push_back({static_cast<int>(i), probabilities[i], values[i]});
  }
  std::stable_sort(predictions.begin(), predictions.end(),
                   [](const Prediction& a, const Prediction& b) { return a.logit > b.logit; });
  return predictions;
}

}  // namespace grapnel::tools
