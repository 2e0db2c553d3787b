// What an optimizer remembers, as named tensors and back.
#include <map>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/optim.h"

namespace grapnel::nn {
namespace {

std::string numbered(const std::string& name, std::size_t number) {
  return name + "." + std::to_string(number);
}

/// Takes entries out of a state, and collects what does not fit.
class StateReader {
 public:
  explicit StateReader(const NamedTensors& state) {
    for (const auto& [name, tensor] : state)
      if (!left_.emplace(name, tensor).second) complain(name + " is there twice");
  }

  bool has(const std::string& name) const { return left_.contains(name); }

  /// Unset if it is missing or has another shape or type.
  Tensor take(const std::string& name, const Shape& shape, DType type) {
    const auto entry = left_.extract(name);
    if (entry.empty()) {
      complain(name + " is missing");
      return {};
    }
    const Tensor& found = entry.mapped();
    if (found.defined() && found.shape() == shape && found.dtype() == type) return found;
    complain(name + " is " +
             (found.defined() ? std::string(grapnel::name(found.dtype())) + " " + to_string(found.shape())
                              : std::string("unset")) +
             " instead of " + std::string(grapnel::name(type)) + " " + to_string(shape));
    return {};
  }

  double number(const std::string& name, DType type) {
    const Tensor found = take(name, {}, type);
    return found.defined() ? found.item() : 0;
  }

  /// Throws NameError unless everything was taken, and fitted.
  void finish() {
    for (const auto& [name, tensor] : left_) complain(name + " is unexpected");
    if (!trouble_.empty())
      throw NameError("Optimizer::load_state: the state belongs to other parameters or settings: " +
                      trouble_);
  }

 private:
  void complain(const std::string& what) { trouble_ += (trouble_.empty() ? "" : ", ") + what; }

  std::map<std::string, Tensor> left_;
  std::string trouble_;
};

}  // namespace

NamedTensors Optimizer::state() const {
  NamedTensors state;
  for (std::size_t group = 0; group < group_count(); ++group) {
    state.emplace_back(numbered("lr", group), Tensor::scalar(lr(group), DType::float64, Device::cpu()));
    state.emplace_back(numbered("initial_lr", group),
                       Tensor::scalar(initial_lrs_[group], DType::float64, Device::cpu()));
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [step, slots] = histories_[i];
    if (step == 0) continue;
    state.emplace_back(numbered("step", i),
                       Tensor::full({}, static_cast<double>(step), DType::int64, Device::cpu()));
    for (std::size_t slot = 0; slot < slots.size(); ++slot)
      if (slots[slot].defined()) state.emplace_back(numbered(slot_names_[slot], i), slots[slot]);
  }
  return state;
}

void Optimizer::load_state(const NamedTensors& state) {
  NoGrad no_grad;
  StateReader reader(state);
  std::vector<double> lrs, initial_lrs;
  for (std::size_t group = 0; group < group_count(); ++group) {
    lrs.push_back(reader.number(numbered("lr", group), DType::float64));
    initial_lrs.push_back(reader.number(numbered("initial_lr", group), DType::float64));
  }
  std::vector<History> histories;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    History& history = histories.emplace_back(History{0, Tensors(slot_names_.size())});
    if (!reader.has(numbered("step", i))) continue;
    history.step = static_cast<std::int64_t>(reader.number(numbered("step", i), DType::int64));
    for (std::size_t slot = 0; slot < slot_names_.size(); ++slot) {
      const std::string name = numbered(slot_names_[slot], i);
      if (!reader.has(name) && !keeps_slots(group_of_[i])) continue;
      history.slots[slot] = reader.take(name, parameters_[i].shape(), parameters_[i].dtype());
    }
  }
  reader.finish();
  for (std::size_t i = 0; i < histories.size(); ++i)
    for (Tensor& slot : histories[i].slots)
      if (slot.defined()) slot = parameters_[i].new_empty(slot.shape()).copy_(slot);
  for (std::size_t group = 0; group < group_count(); ++group) set_lr(group, lrs[group]);
  initial_lrs_ = std::move(initial_lrs);
  histories_ = std::move(histories);
}

}  // namespace grapnel::nn
