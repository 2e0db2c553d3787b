#include "grapnel/engine/saved_tensor_hooks.h"

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/thread_modes.h"

namespace grapnel {

struct SavedTensorHooks::Pair {
  PackHook pack;
  UnpackHook unpack;
};

SavedTensorHooks::SavedTensorHooks(PackHook pack, UnpackHook unpack)
    : pair_(std::make_shared<Pair>(Pair{std::move(pack), std::move(unpack)})),
      previous_(std::exchange(thread_modes().saved_tensor_hooks, &pair_)) {}

SavedTensorHooks::~SavedTensorHooks() {
  thread_modes().saved_tensor_hooks = previous_;
}

std::shared_ptr<const PackedTensor> PackedTensor::pack(const char* operation, const Tensor& value) {
  const std::shared_ptr<const SavedTensorHooks::Pair>* innermost = thread_modes().saved_tensor_hooks;
  if (!innermost) return nullptr;
  auto result = std::make_shared<PackedTensor>();
  result->pair_ = *innermost;
  result->shape_ = value.shape();
  result->dtype_ = value.dtype();
  const std::uint64_t version = value.version();
  NoGrad guard;
  result->packed_ = result->pair_->pack(value);
  if (value.version() != version)
    throw AutogradError(
        "the pack hook for a tensor saved by " + std::string(operation) +
        " changed it in place, which would change the values of the forward pass; clone it first");
  return result;
}

Tensor PackedTensor::unpack(const char* operation) const {
  NoGrad guard;
  Tensor value = pair_->unpack(packed_);
  const auto what = [&] {
    return "the unpack hook for a tensor saved by " + std::string(operation) + " returned ";
  };
  if (!value.defined())
    throw AutogradError(what() + "nothing, expected a tensor of shape " + to_string(shape_));
  if (value.shape() != shape_)
    throw ShapeError(what() + "shape " + to_string(value.shape()) + ", expected " + to_string(shape_));
  if (value.dtype() != dtype_)
    throw TypeError(what() + std::string(name(value.dtype())) + ", expected " + std::string(name(dtype_)));
  return value;
}

}  // namespace grapnel
