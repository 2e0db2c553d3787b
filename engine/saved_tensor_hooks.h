// Hooks around what operations keep for the backward pass: store it elsewhere, smaller, or only watch it.
//
//   std::size_t bytes = 0;
//   SavedTensorHooks watch(
//       [&](const Tensor& x) { bytes += x.storage()->bytes(); return std::any(x); },
//       [](const std::any& kept) { return std::any_cast<Tensor>(kept); });
//   Tensor y = net(x);   // everything this saves goes through the pair; operations save indices, too
#pragma once

#include <any>
#include <functional>
#include <memory>

#include "grapnel/engine/tensor.h"

namespace grapnel {

/// Sees the elements of a tensor that an operation saves (without history, in NoGrad mode) and returns what
/// to keep instead. It may not change the tensor in place.
using PackHook = std::function<std::any(const Tensor& saved)>;
/// Gives back a tensor of the shape and type that was packed, each time the backward pass reads it.
using UnpackHook = std::function<Tensor(const std::any& packed)>;

/// Until the end of the scope, tensors saved on this thread go through the pair. The innermost pair alone is
/// used. What was packed under it is unpacked by it, also later.
class SavedTensorHooks {
 public:
  SavedTensorHooks(PackHook pack, UnpackHook unpack);
  ~SavedTensorHooks();
  SavedTensorHooks(const SavedTensorHooks&) = delete;
  SavedTensorHooks& operator=(const SavedTensorHooks&) = delete;

  struct Pair;

 private:
  std::shared_ptr<const Pair> pair_;
  const std::shared_ptr<const Pair>* previous_;
};

/// What a pack hook returned, and how to get the tensor back. Internal to the engine.
class PackedTensor {
 public:
  /// Null if no hooks are in force on this thread. Throws AutogradError if the hook changed `value` in place.
  static std::shared_ptr<const PackedTensor> pack(const char* operation, const Tensor& value);
  /// Throws ShapeError or TypeError if the hook gives a tensor unlike the one it packed.
  Tensor unpack(const char* operation) const;
  const Shape& shape() const { return shape_; }

 private:
  std::shared_ptr<const SavedTensorHooks::Pair> pair_;
  std::any packed_;
  Shape shape_;
  DType dtype_ = DType::float32;
};

}  // namespace grapnel
