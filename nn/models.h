// The networks by name, and what can be told from a state file before building one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "grapnel/nn/resnet.h"

namespace grapnel::nn {

/// "resnet18", "resnet34", "vgg16".
const std::vector<std::string>& model_names();

/// Throws NameError listing the names for any other. Under a SkipInit (init.h) its weights stay unset.
std::shared_ptr<Module> make_model(const std::string& name, const NetOptions& options = {});

/// Rows of the last layer's weight, "fc.weight" or "classifier.6.weight". Throws NameError if `state` has
/// none.
std::int64_t num_classes_of(const std::string& name, const NamedTensors& state);

/// NetOptions::width: rows of the first convolution's weight. Throws NameError as above.
std::int64_t width_of(const std::string& name, const NamedTensors& state);

/// The linear layer that gives the logits: "fc" or "classifier.6".
std::string last_layer(const std::string& name);

/// The layer whose output class activation maps explain: "layer4" or, the last activation map, "features.29".
std::string default_cam_layer(const std::string& name);

}  // namespace grapnel::nn
