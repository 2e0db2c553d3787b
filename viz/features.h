// What the layers of a net make of a picture, layer by layer. Paint a result with feature_grid (grid.h).
#pragma once

#include <string>
#include <vector>

#include "grapnel/nn/module.h"
#include "grapnel/viz/capture.h"

namespace grapnel::viz {

struct FeatureMaps {
  std::string layer;
  Tensor activation;  ///< (1,K,h,w) for a convolution; whatever the layer returned for others
};

/// Runs net(x) once, in eval mode and without recording, and keeps what the named layers returned, in the
/// order in which they ran; a layer that ran twice appears twice. Modes are put back and hooks removed, also
/// if it throws. Throws NameError for an unknown layer and Error for one that did not run.
std::vector<FeatureMaps> capture_features(nn::Module& net, const Tensor& x,
                                          const std::vector<std::string>& layers,
                                          CaptureMode mode = CaptureMode::copy);

/// The names of all Conv2d modules, in the order of the module tree (ResNet34: 36).
std::vector<std::string> all_convolutions(nn::Module& net);

/// "features.0", "features.1", ...: the names of a module's children. Throws NameError for an unknown module.
std::vector<std::string> children_of(nn::Module& net, const std::string& path);

}  // namespace grapnel::viz
