#include "grapnel/viz/features.h"

#include <algorithm>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/eval_scope.h"
#include "grapnel/nn/layers.h"

namespace grapnel::viz {

std::vector<FeatureMaps> capture_features(nn::Module& net, const Tensor& x,
                                          const std::vector<std::string>& layers, CaptureMode mode) {
  std::vector<FeatureMaps> found;
  std::vector<ScopedHook> hooks;
  for (const std::string& layer : layers) {
    const auto note = [&found, &layer, mode](nn::Module&, const Tensors&,
                                             const Tensors& outputs) -> std::optional<Tensors> {
      found.push_back({layer, keep(outputs.at(0), mode)});
      return std::nullopt;
    };
    hooks.emplace_back(net.at(layer).register_forward_hook(note, {.name = "capture_features"}));
  }
  const nn::EvalScope eval(net);
  const NoGrad no_grad;
  net(x);
  for (const std::string& layer : layers)
    if (std::none_of(found.begin(), found.end(),
                     [&layer](const FeatureMaps& maps) { return maps.layer == layer; }))
      throw Error("capture_features: layer \"" + layer + "\" did not run; name a module that is called");
  return found;
}

std::vector<std::string> all_convolutions(nn::Module& net) {
  std::vector<std::string> names;
  for (const auto& [path, module] : net.named_modules())
    if (dynamic_cast<nn::Conv2d*>(module)) names.push_back(path);
  return names;
}

std::vector<std::string> children_of(nn::Module& net, const std::string& path) {
  std::vector<std::string> names;
  for (const auto& [name, child] : net.at(path).named_children())
    names.push_back(path.empty() ? name : path + "." + name);
  return names;
}

}  // namespace grapnel::viz
