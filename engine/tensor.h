// The value handle: a storage seen through offset, shape and strides, and its place in the graph.
//
// Copying a Tensor copies the handle; both name the same value. Operations are free functions (ops.h).
// Read next: node.h, how an operation is recorded.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "grapnel/engine/device.h"
#include "grapnel/engine/dtype.h"
#include "grapnel/engine/hooks.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/shape.h"
#include "grapnel/engine/storage.h"

namespace grapnel {

class Generator;
class Node;
class Tensor;
struct TensorImpl;

/// An unset Tensor stands for "nothing" (a gradient that is zero or unwanted).
using Tensors = PoolVector<Tensor>;

/// Sees a gradient; may return a replacement of the same shape and type, or nothing. The gradient is unset
/// where a pass reaches an operation of which this output was not used.
using TensorHook = std::function<std::optional<Tensor>(const Tensor& gradient)>;
/// Runs after a leaf's gradient was accumulated; may change the leaf and its gradient.
using PostAccumulateHook = std::function<void(Tensor& leaf)>;

class Tensor {
 public:
  /// Nothing: defined() is false.
  Tensor() = default;
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}

  // --- making one; on the CPU but for a DefaultDevice (device.h) ---
  static Tensor empty(const Shape& shape, DType type = DType::float32,
                      MemoryFormat format = MemoryFormat::contiguous, Device device = default_device());
  static Tensor full(const Shape& shape, double value, DType type = DType::float32,
                     Device device = default_device());
  static Tensor zeros(const Shape& shape, DType type = DType::float32, Device device = default_device()) {
    return full(shape, 0, type, device);
  }
  static Tensor ones(const Shape& shape, DType type = DType::float32, Device device = default_device()) {
    return full(shape, 1, type, device);
  }
  static Tensor scalar(double value, DType type = DType::float32, Device device = default_device()) {
    return full({}, value, type, device);
  }
  /// 0, 1, ..., count-1.
  static Tensor arange(std::int64_t count, DType type = DType::float32, Device device = default_device());
  /// Standard normal / uniform in [0, 1) numbers from `generator` (random.h), the same on every device.
  static Tensor randn(const Shape& shape, Generator& generator, DType type = DType::float32,
                      Device device = default_device());
  static Tensor rand(const Shape& shape, Generator& generator, DType type = DType::float32,
                     Device device = default_device());
  /// A copy of `values` in row-major order. Throws ShapeError if their number is not numel(shape).
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, Device device = default_device());
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape, Device device = default_device()) {
    return from(std::span<const T>(values.begin(), values.size()), shape, device);
  }
  /// Sees memory of the CPU owned by the caller without copying; `release` runs when the last view of it is
  /// gone.
  static Tensor from_blob(void* data, const Shape& shape, const Strides& strides, DType type,
                          std::function<void()> release = {});
  /// Another view of an existing storage, offset in elements. Throws ShapeError if it would reach outside.
  static Tensor view_of(std::shared_ptr<Storage> storage, std::int64_t offset, const Shape& shape,
                        const Strides& strides, DType type);

  // --- making another of its type, on its device ---
  Tensor new_empty(const Shape& shape, MemoryFormat format = MemoryFormat::contiguous) const {
    return empty(shape, dtype(), format, device());
  }
  Tensor new_zeros(const Shape& shape) const { return zeros(shape, dtype(), device()); }
  Tensor new_ones(const Shape& shape) const { return ones(shape, dtype(), device()); }

  // --- looking at it ---
  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const;
  const Strides& strides() const;
  /// Size of one dimension; negative counts from the end. Throws ShapeError.
  std::int64_t size(std::int64_t dim) const;
  std::size_t rank() const { return shape().size(); }
  std::int64_t numel() const;
  DType dtype() const;
  Device device() const;
  std::int64_t storage_offset() const;
  const std::shared_ptr<Storage>& storage() const;
  bool is_contiguous(MemoryFormat format = MemoryFormat::contiguous) const;
  /// channels_last if rank 4 and dense in that order and not also row-major; contiguous otherwise.
  MemoryFormat suggested_format() const;
  /// Address of the first element, on device(): read what is not on the CPU through to_vector, item or
  /// to(Device). Throws TypeError if T is not the element type. Const like a pointer: the elements are not.
  template <class T>
  T* data() const;
  void* raw_data() const;
  /// The value of a one-element tensor, converted. Throws ShapeError if there are more.
  double item() const;
  /// All elements in row-major order, converted to T.
  template <class T>
  std::vector<T> to_vector() const;
  /// How often the storage was changed in place.
  std::uint64_t version() const;
  /// Same value object (not: equal values).
  bool is_same(const Tensor& other) const { return impl_ == other.impl_; }

  // --- other forms (differentiable) ---
  /// Itself if it has this type already.
  Tensor to(DType type) const;
  /// Itself if it is there already, else a copy in the same order. Throws DeviceError.
  Tensor to(Device device) const;
  /// Itself if dense in this format already, else a copy.
  Tensor contiguous(MemoryFormat format = MemoryFormat::contiguous) const;
  Tensor clone() const;

  // --- changing it (each bumps the version) ---
  /// Broadcasts and converts `source` into this tensor. Recorded like any operation.
  const Tensor& copy_(const Tensor& source) const;
  const Tensor& fill_(double value) const;
  const Tensor& zero_() const { return fill_(0); }

  // --- the graph ---
  bool requires_grad() const;
  /// Throws AutogradError on a non-leaf, TypeError on an integer type.
  const Tensor& set_requires_grad(bool requires_grad = true) const;
  /// Made by the user rather than by a recorded operation.
  bool is_leaf() const;
  /// Same storage, no history.
  Tensor detach() const;
  /// Forgets its own history. Throws AutogradError on a view; an operation that saved it as an input can no
  /// longer go backward.
  const Tensor& detach_() const;
  /// The recorded operation that made this tensor; null for a leaf.
  std::shared_ptr<Node> grad_fn() const;
  /// Which of grad_fn's outputs this is.
  std::size_t output_number() const;
  /// The accumulated gradient; unset before any backward.
  Tensor grad() const;
  /// Sets or, with an unset tensor, clears the gradient. Throws on another shape, type or device.
  void set_grad(const Tensor& gradient) const;
  /// A leaf sees the memory of `value` from now on, of the same shape and type, and keeps its gradient (moved
  /// along to another device) and hooks. What a graph saved of it, and its views, stay with the former
  /// memory. Throws ShapeError, TypeError, or AutogradError on a view or a non-leaf.
  const Tensor& set_data(const Tensor& value) const;
  /// Accumulates d(this)/d(leaf) into every leaf's grad. See backward.h.
  void backward(const Tensor& gradient = {}, bool retain_graph = false, bool create_graph = false) const;

  // --- hooks ---
  /// Runs once a pass with the summed gradient of this tensor. Throws AutogradError if it needs none, saying
  /// why.
  HookHandle register_hook(TensorHook hook, std::string name = {}) const;
  /// On leaves only.
  HookHandle register_post_accumulate_grad_hook(PostAccumulateHook hook, std::string name = {}) const;
  /// Keeps a non-leaf's gradient in grad(). Idempotent; nothing to do on a leaf.
  void retain_grad() const;
  bool retains_grad() const;

  const std::shared_ptr<TensorImpl>& impl() const { return impl_; }

 private:
  void check_set() const;

  std::shared_ptr<TensorImpl> impl_;
};

}  // namespace grapnel
