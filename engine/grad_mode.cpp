#include "grapnel/engine/grad_mode.h"

#include <utility>

#include "grapnel/engine/thread_modes.h"

namespace grapnel {

ThreadModes& thread_modes() {
  thread_local constinit ThreadModes modes;
  return modes;
}

bool grad_enabled() {
  return thread_modes().recording;
}

GradMode::GradMode(bool enabled) : previous_(std::exchange(thread_modes().recording, enabled)) {}
GradMode::~GradMode() {
  thread_modes().recording = previous_;
}

InferenceMode::InferenceMode() : previous_(std::exchange(thread_modes().inference, true)) {}
InferenceMode::~InferenceMode() {
  thread_modes().inference = previous_;
}
bool InferenceMode::enabled() {
  return thread_modes().inference;
}

AnomalyMode::AnomalyMode(bool enabled) : previous_(std::exchange(thread_modes().anomaly, enabled)) {}
AnomalyMode::~AnomalyMode() {
  thread_modes().anomaly = previous_;
}

}  // namespace grapnel
