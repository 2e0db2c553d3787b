#include "grapnel/viz/capture.h"

#include <string>
#include <vector>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"

namespace grapnel::viz {

Tensor keep(const Tensor& value, CaptureMode mode) {
  if (mode == CaptureMode::alias) return value.detach();
  const NoGrad guard;
  return value.clone();
}

struct Capture::State {
  struct Call {
    Tensor activation, gradient;
    std::uint64_t version;
    bool recorded;
  };
  std::string module;
  std::vector<std::shared_ptr<Call>> calls;  // each also held weakly by the hook on its output

  const Call& at(std::size_t call) const {
    const std::size_t index = call == last ? calls.size() - 1 : call;
    if (index >= calls.size())
      throw Error("Capture of " + module + ": asked for " +
                  (call == last ? "the last call" : "call " + std::to_string(call)) + ", there were " +
                  std::to_string(calls.size()));
    return *calls[index];
  }
};

Capture::Capture(nn::Module& module, CaptureMode mode) : state_(std::make_shared<State>()) {
  const std::string path = module.path();
  state_->module = path.empty() ? module.type_name() : path + " (" + module.type_name() + ")";
  const auto note = [state = state_.get(), mode](nn::Module&, const Tensors&,
                                                 const Tensors& outputs) -> std::optional<Tensors> {
    const Tensor kept = keep(outputs.at(0), mode);
    const bool recorded = outputs[0].requires_grad();
    const auto call = std::make_shared<State::Call>(State::Call{kept, {}, kept.version(), recorded});
    state->calls.push_back(call);
    if (!recorded) return std::nullopt;
    outputs[0].register_hook(
        [weak = std::weak_ptr(call)](const Tensor& gradient) -> std::optional<Tensor> {
          if (const auto alive = weak.lock()) {
            Tensor& sum = alive->gradient;
            sum = sum.defined() ? sum + gradient.detach() : gradient.detach();
          }
          return std::nullopt;
        },
        "capture");
    return std::nullopt;
  };
  hook_ = module.register_forward_hook(note, {.name = "capture"});
}

std::size_t Capture::calls() const {
  return state_->calls.size();
}

Tensor Capture::activation(std::size_t call) const {
  return state_->at(call).activation;
}

Tensor Capture::gradient(std::size_t call) const {
  const State::Call& found = state_->at(call);
  if (found.gradient.defined()) return found.gradient;
  throw AutogradError("Capture of " + state_->module + ": no gradient arrived; " +
                      (found.recorded
                           ? "run a backward pass from something that depends on this call"
                           : "the call was not recorded, because of no_grad or because neither its "
                             "input nor its parameters require a gradient"));
}

bool Capture::overwritten(std::size_t call) const {
  const State::Call& found = state_->at(call);
  return found.activation.version() != found.version;
}

void Capture::clear() {
  state_->calls.clear();
}

}  // namespace grapnel::viz
