#include "grapnel/nn/models.h"

#include <algorithm>

#include "grapnel/nn/vgg.h"

namespace grapnel::nn {
namespace {

/// One row a network.
struct Model {
  const char* name;
  std::shared_ptr<Module> (*make)(const NetOptions&);
  const char* width_weight;  // its rows are NetOptions::width
  const char* last_layer;    // the rows of its weight are the classes
  const char* cam_layer;
};

constexpr Model kModels[] = {
    {"resnet18", resnet18, "conv1.weight", "fc", "layer4"},
    {"resnet34", resnet34, "conv1.weight", "fc", "layer4"},
    {"vgg16", vgg16, "features.0.weight", "classifier.6", "features.29"},
};

const Model& find(const std::string& name) {
  for (const Model& model : kModels)
    if (name == model.name) return model;
  std::string known;
  for (const Model& model : kModels) known += (known.empty() ? "" : ", ") + std::string(model.name);
  throw NameError("no model \"" + name + "\"; there are " + known);
}

std::int64_t rows_of(const std::string& weight, const Model& model, const NamedTensors& state) {
  const auto found = std::find_if(state.begin(), state.end(),
                                  [&weight](const auto& entry) { return entry.first == weight; });
  if (found == state.end() || !found->second.defined() || found->second.rank() == 0)
    throw NameError("the state has no \"" + weight + "\", so it is not one of a " + model.name);
  return found->second.size(0);
}

}  // namespace

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Model& model : kModels) result.push_back(model.name);
    return result;
  }();
  return names;
}

std::shared_ptr<Module> make_model(const std::string& name, const NetOptions& options) {
  return find(name).make(options);
}

std::int64_t num_classes_of(const std::string& name, const NamedTensors& state) {
  const Model& model = find(name);
  return rows_of(model.last_layer + std::string(".weight"), model, state);
}

std::int64_t width_of(const std::string& name, const NamedTensors& state) {
  const Model& model = find(name);
  return rows_of(model.width_weight, model, state);
}

std::string last_layer(const std::string& name) {
  return find(name).last_layer;
}

std::string default_cam_layer(const std::string& name) {
  return find(name).cam_layer;
}

}  // namespace grapnel::nn
