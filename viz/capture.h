// Keeping what a layer returned, and the gradient it got: the smallest use of hooks, and the one that most
// tools start with.
//
// Read next: features.h (many layers at once), observation.h (layers and gradients for explanations).
#pragma once

#include <cstddef>
#include <memory>

#include "grapnel/nn/module.h"

namespace grapnel::viz {

enum class CaptureMode {
  copy,   ///< what the layer returned, whatever happens to it later
  alias,  ///< the very memory: an in-place layer behind it shows through, as with a plain hook in PyTorch on
          ///< torchvision's VGG, whose convolutions seem to return what their in-place ReLU makes of it
};

/// `value` as a capture keeps it: without history.
Tensor keep(const Tensor& value, CaptureMode mode);

/// Keeps the output of each call of a module and, once a backward pass came by, its gradient. The hooks go
/// with the Capture; what its tensors hold stays valid. Only a module's first output is kept.
class Capture {
 public:
  static constexpr std::size_t last = static_cast<std::size_t>(-1);

  explicit Capture(nn::Module& module, CaptureMode mode = CaptureMode::copy);

  /// How often the module was called since construction or clear().
  std::size_t calls() const;
  /// What a call returned, without history. Throws Error if there was no such call.
  Tensor activation(std::size_t call = last) const;
  /// Gradient of what a call returned, summed over the backward passes since. Throws AutogradError, saying
  /// what is missing, if none arrived.
  Tensor gradient(std::size_t call = last) const;
  /// Whether the memory was changed in place since the call: in alias mode, activation() then is not what the
  /// layer returned.
  bool overwritten(std::size_t call = last) const;
  /// Forgets all calls.
  void clear();

 private:
  struct State;
  std::shared_ptr<State> state_;  // the graph's hooks hold it weakly
  ScopedHook hook_;
};

}  // namespace grapnel::viz
