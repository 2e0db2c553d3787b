// Sizes, strides, broadcasting and memory formats. Pure arithmetic on small inline arrays.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "grapnel/engine/error.h"

namespace grapnel {

/// Up to eight integers, one per dimension; used for sizes, strides and lists of dimensions. No heap.
class Dims {
 public:
  static constexpr std::size_t kMax = 8;

  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values) : Dims(std::span(values.begin(), values.size())) {}
  explicit Dims(std::span<const std::int64_t> values) {
    for (std::int64_t value : values) push_back(value);
  }
  Dims(std::size_t rank, std::int64_t value) {
    for (std::size_t i = 0; i < rank; ++i) push_back(value);
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::int64_t& operator[](std::size_t i) { return values_[i]; }
  std::int64_t operator[](std::size_t i) const { return values_[i]; }
  const std::int64_t* data() const { return values_.data(); }
  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + size_; }
  std::int64_t* begin() { return values_.data(); }
  std::int64_t* end() { return values_.data() + size_; }
  std::int64_t back() const { return values_[size_ - 1]; }

  /// Throws ShapeError beyond eight dimensions.
  void push_back(std::int64_t value) {
    if (size_ == kMax) throw ShapeError("a tensor has at most 8 dimensions");
    values_[size_++] = value;
  }
  void insert(std::size_t at, std::int64_t value) {
    push_back(value);
    std::rotate(begin() + at, end() - 1, end());
  }
  void erase(std::size_t at) {
    std::copy(begin() + at + 1, end(), begin() + at);
    --size_;
  }

  bool operator==(const Dims& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

 private:
  std::array<std::int64_t, kMax> values_{};
  std::size_t size_ = 0;
};

using Shape = Dims;
using Strides = Dims;

/// Physical order of a dense tensor behind its logical (N,C,H,W) shape.
enum class MemoryFormat { contiguous, channels_last };

/// "(2, 3, 4)".
std::string to_string(const Dims& dims);

/// Product of the sizes; 1 for a scalar. Throws ShapeError for a negative size or overflow.
std::int64_t numel(const Shape& shape);

/// Strides of a dense tensor. channels_last needs rank 4.
Strides dense_strides(const Shape& shape, MemoryFormat format = MemoryFormat::contiguous);

/// True if the strides are those of a dense tensor in this format (dimensions of size 1 do not matter).
bool is_dense(const Shape& shape, const Strides& strides, MemoryFormat format);

/// The NumPy broadcast of two shapes. `operation` opens the message of the ShapeError thrown if they do not
/// fit.
Shape broadcast_shapes(const char* operation, const Shape& a, const Shape& b);

/// Whether `from` broadcasts to `to`.
bool broadcasts_to(const Shape& from, const Shape& to);

/// Wraps a possibly negative dimension into [0, rank). Throws ShapeError naming `operation`.
std::size_t wrap_dim(const char* operation, std::int64_t dim, std::size_t rank);

/// Wrapped, sorted, distinct dimensions; an empty list means all of them. Throws ShapeError on repeats.
Dims wrap_dims(const char* operation, const Dims& dims, std::size_t rank);

}  // namespace grapnel
