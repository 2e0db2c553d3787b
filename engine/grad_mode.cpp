#include "grapnel/engine/grad_mode.h"

#include <utility>

namespace grapnel {
namespace {

thread_local bool recording = true;
thread_local bool inference = false;

}  // namespace

bool grad_enabled() {
  return recording;
}

GradMode::GradMode(bool enabled) : previous_(std::exchange(recording, enabled)) {}
GradMode::~GradMode() {
  recording = previous_;
}

InferenceMode::InferenceMode() : previous_(std::exchange(inference, true)) {}
InferenceMode::~InferenceMode() {
  inference = previous_;
}
bool InferenceMode::enabled() {
  return inference;
}

}  // namespace grapnel
