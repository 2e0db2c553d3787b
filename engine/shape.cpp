#include "grapnel/engine/shape.h"

namespace grapnel {

std::string to_string(const Dims& dims) {
  std::string text = "(";
  for (std::size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + (dims.size() == 1 ? ",)" : ")");
}

std::int64_t numel(const Shape& shape) {
  std::int64_t count = 1;
  for (std::int64_t size : shape) {
    if (size < 0) throw ShapeError("a size cannot be negative: " + to_string(shape));
    if (__builtin_mul_overflow(count, size, &count))
      throw ShapeError("the number of elements of " + to_string(shape) + " overflows 64 bits");
  }
  return count;
}

Strides dense_strides(const Shape& shape, MemoryFormat format) {
  Strides strides(shape.size(), 1);
  std::int64_t step = 1;
  const auto place = [&](std::size_t d) {
    strides[d] = step;
    step *= std::max<std::int64_t>(shape[d], 1);
  };
  if (format == MemoryFormat::channels_last) {
    if (shape.size() != 4) throw ShapeError("channels last needs 4 dimensions, not " + to_string(shape));
    for (std::size_t d : {1, 3, 2, 0}) place(d);
  } else {
    for (std::size_t d = shape.size(); d-- > 0;) place(d);
  }
  return strides;
}

bool is_dense(const Shape& shape, const Strides& strides, MemoryFormat format) {
  if (format == MemoryFormat::channels_last && shape.size() != 4) return false;
  for (std::int64_t size : shape)
    if (size == 0) return true;
  const Strides dense = dense_strides(shape, format);
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (shape[d] > 1 && strides[d] != dense[d]) return false;
  return true;
}

Shape broadcast_shapes(const char* operation, const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape result(rank, 1);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t left = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t right = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (left != right && left != 1 && right != 1)
      throw ShapeError(std::string(operation) + ": shapes " + to_string(a) + " and " + to_string(b) +
                       " do not broadcast: sizes " + std::to_string(left) + " and " + std::to_string(right) +
                       " must be equal, or one of them 1");
    result[rank - 1 - i] = left == 1 ? right : left;
  }
  return result;
}

bool broadcasts_to(const Shape& from, const Shape& to) {
  if (from.size() > to.size()) return false;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::int64_t size = from[from.size() - 1 - i];
    if (size != 1 && size != to[to.size() - 1 - i]) return false;
  }
  return true;
}

std::size_t wrap_dim(const char* operation, std::int64_t dim, std::size_t rank) {
  const std::int64_t signed_rank = static_cast<std::int64_t>(rank);
  if (dim < -signed_rank || dim >= signed_rank)
    throw ShapeError(std::string(operation) + ": dimension " + std::to_string(dim) +
                     " does not exist in a tensor of " + std::to_string(rank) + " dimensions");
  return static_cast<std::size_t>(dim < 0 ? dim + signed_rank : dim);
}

Dims wrap_dims(const char* operation, const Dims& dims, std::size_t rank) {
  Dims result;
  if (dims.empty()) {
    for (std::size_t d = 0; d < rank; ++d) result.push_back(static_cast<std::int64_t>(d));
    return result;
  }
  for (std::int64_t dim : dims) result.push_back(static_cast<std::int64_t>(wrap_dim(operation, dim, rank)));
  std::sort(result.begin(), result.end());
  if (std::adjacent_find(result.begin(), result.end()) != result.end())
    throw ShapeError(std::string(operation) + ": a dimension appears twice in " + to_string(dims));
  return result;
}

}  // namespace grapnel
