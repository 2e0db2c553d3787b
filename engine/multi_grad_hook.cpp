// A multi-gradient hook is a tensor hook on each of the tensors, with a state per pass (pass_local).
#include "grapnel/engine/multi_grad_hook.h"

#include <algorithm>

#include "grapnel/engine/node.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

/// The node at which a tensor's gradient arrives. Weak, for that node's hooks own what holds this; a leaf has
/// another node for every graph.
struct Place {
  std::weak_ptr<Node> node;
  std::weak_ptr<LeafState> leaf;

  explicit Place(const Tensor& tensor) : node(tensor.grad_fn()), leaf(tensor.impl()->autograd.leaf) {}

  bool visited() const {
    auto found = node.lock();
    if (const auto state = found ? nullptr : leaf.lock()) {
      std::lock_guard lock(state->mutex);
      found = state->accumulator.lock();
    }
    return found && pass_visits(*found);
  }
};

/// Registers on_gradient(i, gradient, key) on each tensor, where `key` is the same for all of them; the
/// handle silences them together.
template <class OnGradient>
HookHandle register_on_each(const char* operation, const Tensors& tensors, std::string name,
                            const OnGradient& on_gradient) {
  if (tensors.empty()) throw AutogradError(std::string(operation) + ": no tensors given");
  for (const Tensor& tensor : tensors)
    if (!tensor.requires_grad())
      throw AutogradError(std::string(operation) + ": a tensor of shape " + to_string(tensor.shape()) +
                          " requires no gradient");
  auto entry = std::make_shared<detail::HookEntry>();
  entry->name = std::move(name);
  for (std::size_t i = 0; i < tensors.size(); ++i)
    tensors[i].register_hook(
        [=](const Tensor& gradient) -> std::optional<Tensor> {
          if (!entry->removed) on_gradient(i, gradient, entry.get());
          return std::nullopt;
        },
        entry->name);
  return HookHandle(entry);
}

struct Arrivals {
  Tensors gradients;
  std::ptrdiff_t outstanding = 0;
};

}  // namespace

HookHandle register_all_grads_hook(const Tensors& tensors, AllGradsHook hook, std::string name) {
  std::vector<Place> places;
  for (const Tensor& tensor : tensors)
    if (tensor.defined()) places.emplace_back(tensor);
  return register_on_each("register_all_grads_hook", tensors, std::move(name),
                          [=](std::size_t i, const Tensor& gradient, const void* key) {
                            std::shared_ptr<void>& slot = pass_local(key);
                            if (!slot) {
                              auto fresh = std::make_shared<Arrivals>();
                              fresh->gradients.resize(places.size());
                              fresh->outstanding =
                                  std::count_if(places.begin(), places.end(),
                                                [](const Place& place) { return place.visited(); });
                              slot = std::move(fresh);
                            }
                            const auto arrivals = std::static_pointer_cast<Arrivals>(slot);
                            arrivals->gradients[i] = gradient;
                            if (--arrivals->outstanding == 0) hook(arrivals->gradients);
                          });
}

HookHandle register_any_grad_hook(const Tensors& tensors, AnyGradHook hook, std::string name) {
  return register_on_each("register_any_grad_hook", tensors, std::move(name),
                          [=](std::size_t, const Tensor& gradient, const void* key) {
                            std::shared_ptr<void>& fired = pass_local(key);
                            if (fired || !gradient.defined()) return;
                            fired = std::make_shared<bool>(true);
                            hook(gradient);
                          });
}

}  // namespace grapnel
