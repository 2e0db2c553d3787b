// State hooks: a file with other names is loaded by a hook that renames, and saved under its own names again.
#include <string>

#include "example.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/layers.h"

using namespace grapnel;

int main() {
  nn::Linear layer(2, 1);
  const nn::NamedTensors old_file{{"kernel", Tensor::full({1, 2}, 3)}, {"bias", Tensor::full({1}, 1)}};

  const ScopedHook loading = layer.register_load_state_dict_pre_hook(
      [](nn::Module&, nn::NamedTensors& state, const std::string& prefix) {
        for (auto& [name, tensor] : state)
          if (name == prefix + "kernel") name = prefix + "weight";
      });
  const ScopedHook saving = layer.register_state_dict_post_hook(
      [](nn::Module&, nn::NamedTensors& state, const std::string& prefix) {
        for (auto& [name, tensor] : state)
          if (name == prefix + "weight") name = prefix + "kernel";
      });
  layer.load_state_dict(old_file);
  return promise(layer(Tensor::ones({1, 2})).item() == 7 && layer.state_dict()[0].first == "kernel",
                 "loaded as weight, saved as kernel");
}
