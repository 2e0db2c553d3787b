// What a thread's code runs under; the scopes of grad_mode.h, device.h, fusion.h and saved_tensor_hooks.h
// set it, and device_graph.h.
// Internal to the engine.
#pragma once

#include <memory>

#include "grapnel/engine/device.h"
#include "grapnel/engine/saved_tensor_hooks.h"

namespace grapnel {

struct ThreadModes {
  bool recording = true;
  bool inference = false;
  bool anomaly = false;
  bool fusing = false;
  Device default_device;
  bool capturing = false;  // device_graph.h: kernels are recorded, and nothing is computed
  const std::shared_ptr<const SavedTensorHooks::Pair>* saved_tensor_hooks = nullptr;  // the innermost
};

ThreadModes& thread_modes();

}  // namespace grapnel
