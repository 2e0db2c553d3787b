// Other views of the same elements: no copy, and in-place changes are seen by all of them.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

/// Replaces one -1 by what is left and checks the count.
Shape complete(const char* name, const Tensor& x, Shape shape) {
  std::int64_t known = 1;
  std::int64_t* open = nullptr;
  bool valid = true;
  for (std::int64_t& size : shape) {
    if (size == -1) {
      valid = valid && !open;
      open = &size;
    } else {
      known *= size;
    }
  }
  if (open && valid) {
    valid = known > 0 && x.numel() % known == 0;
    if (valid) *open = x.numel() / known;
  }
  if (!valid || numel(shape) != x.numel())
    throw ShapeError(std::string(name) + ": a tensor of shape " + to_string(x.shape()) + " cannot become " +
                     to_string(shape));
  return shape;
}

/// Strides that show x's elements, in row-major order, as `shape` without a copy; nothing if x's strides
/// forbid it.
std::optional<Strides> strides_for(const Tensor& x, const Shape& shape) {
  if (x.numel() == 0) return dense_strides(shape);
  Strides strides(shape.size(), 1);
  std::size_t to = shape.size();
  std::int64_t block = 1;  // elements of the current run of x that merge
  std::int64_t step = 1;   // stride of the run's innermost element
  for (std::size_t from = x.rank(); from-- > 0;) {
    const std::int64_t size = x.shape()[from], stride = x.strides()[from];
    if (block == 1) step = stride;
    if (size != 1 && block != 1 && stride != block * step) return std::nullopt;
    if (size != 1 && block == 1) step = stride;
    block *= size;
    const bool ends = from == 0 || (x.shape()[from - 1] != 1 && x.strides()[from - 1] != block * step);
    if (!ends) continue;
    std::int64_t filled = 1;
    while (to > 0 && (filled < block || shape[to - 1] == 1)) {
      --to;
      strides[to] = filled * step;
      filled *= shape[to];
    }
    if (filled != block) return std::nullopt;
    block = 1;
  }
  return strides;
}

Tensor view_as(const char* name, const Tensor& x, const Shape& shape, const Strides& strides) {
  const Shape before = x.shape();
  return record(name, make_view(x, shape, strides, x.storage_offset()), {x}, {},
                [before](const Backward& ctx) -> Tensors { return {reshape(ctx.grad(), before)}; });
}

}  // namespace

Tensor view(const Tensor& x, const Shape& shape) {
  const Shape full = complete("view", x, shape);
  const auto strides = strides_for(x, full);
  if (!strides)
    throw ShapeError("view: a tensor of shape " + to_string(x.shape()) + " and strides " +
                     to_string(x.strides()) + " cannot be seen as " + to_string(full) +
                     " without a copy; use reshape");
  return view_as("view", x, full, *strides);
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  const Shape full = complete("reshape", x, shape);
  if (full == x.shape()) return x;
  if (const auto strides = strides_for(x, full)) return view_as("reshape", x, full, *strides);
  const Tensor dense = x.contiguous();
  return view_as("reshape", dense, full, dense_strides(full));
}

Tensor flatten(const Tensor& x, std::int64_t first_dim, std::int64_t last_dim) {
  if (x.rank() == 0) return reshape(x, {1});
  const std::size_t first = wrap_dim("flatten", first_dim, x.rank()),
                    last = wrap_dim("flatten", last_dim, x.rank());
  if (first > last)
    throw ShapeError("flatten: the first dimension " + std::to_string(first_dim) + " comes after the last, " +
                     std::to_string(last_dim));
  Shape shape;
  for (std::size_t d = 0; d < x.rank(); ++d) {
    if (d > first && d <= last)
      shape[shape.size() - 1] *= x.shape()[d];
    else
      shape.push_back(x.shape()[d]);
  }
  return reshape(x, shape);
}

// dx = dy in the inverse order
Tensor permute(const Tensor& x, const Dims& order) {
  Shape shape(x.rank(), 0);
  Strides strides(x.rank(), 0);
  Dims inverse(x.rank(), -1);
  bool valid = order.size() == x.rank();
  for (std::size_t d = 0; valid && d < order.size(); ++d) {
    const std::size_t from = wrap_dim("permute", order[d], x.rank());
    valid = inverse[from] == -1;
    inverse[from] = static_cast<std::int64_t>(d);
    shape[d] = x.shape()[from];
    strides[d] = x.strides()[from];
  }
  if (!valid)
    throw ShapeError("permute: " + to_string(order) + " is no order of the dimensions of " +
                     to_string(x.shape()));
  return record("permute", make_view(x, shape, strides, x.storage_offset()), {x}, {},
                [inverse](const Backward& ctx) -> Tensors { return {permute(ctx.grad(), inverse)}; });
}

Tensor transpose(const Tensor& x, std::int64_t dim0, std::int64_t dim1) {
  Dims order;
  for (std::size_t d = 0; d < x.rank(); ++d) order.push_back(static_cast<std::int64_t>(d));
  std::swap(order[wrap_dim("transpose", dim0, x.rank())], order[wrap_dim("transpose", dim1, x.rank())]);
  return permute(x, order);
}

// dx = dy summed over the repeats, which the traversal does for any broadcast
Tensor expand(const Tensor& x, const Shape& shape) {
  Shape full = shape;
  for (std::size_t i = 0; i < x.rank() && i < full.size(); ++i) {
    std::int64_t& size = full[full.size() - 1 - i];
    if (size == -1) size = x.shape()[x.rank() - 1 - i];
  }
  if (!broadcasts_to(x.shape(), full))
    throw ShapeError("expand: a tensor of shape " + to_string(x.shape()) + " does not broadcast to " +
                     to_string(shape));
  return record("expand", make_view(x, full, broadcast_strides(x, full), x.storage_offset()), {x}, {},
                [](const Backward& ctx) -> Tensors { return {ctx.grad()}; });
}

// dx = dy between zeros
Tensor narrow(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length) {
  const std::size_t d = wrap_dim("narrow", dim, x.rank());
  const std::int64_t size = x.shape()[d];
  if (start < 0 || length < 0 || start > size - length)
    throw ShapeError("narrow: " + std::to_string(length) + " positions from " + std::to_string(start) +
                     " do not lie within size " + std::to_string(size) + " of dimension " +
                     std::to_string(dim));
  Shape shape = x.shape();
  shape[d] = length;
  return record(
      "narrow", make_view(x, shape, x.strides(), x.storage_offset() + start * x.strides()[d]), {x}, {},
      [d, start, length, size](const Backward& ctx) -> Tensors {
        const Tensor& dy = ctx.grad();
        const auto zeros = [&](std::int64_t count) {
          Shape part = dy.shape();
          part[d] = count;
          return dy.new_zeros(part);
        };
        return {cat({zeros(start), dy, zeros(size - start - length)}, static_cast<std::int64_t>(d))};
      });
}

Tensor select(const Tensor& x, std::int64_t dim, std::int64_t index) {
  const std::size_t d = wrap_dim("select", dim, x.rank());
  const std::int64_t size = x.shape()[d];
  if (index < -size || index >= size)
    throw ShapeError("select: index " + std::to_string(index) + " is outside size " + std::to_string(size) +
                     " of dimension " + std::to_string(dim));
  return squeeze(narrow(x, dim, index < 0 ? index + size : index, 1), static_cast<std::int64_t>(d));
}

namespace {

/// Records views made together; `join` puts their gradients, zeros for the unused ones, together again.
Tensors record_views(const char* name, const Tensor& x, Tensors views,
                     Tensor (*join)(const Tensors&, std::int64_t), std::int64_t dim) {
  for (const Tensor& view : views)
    if (ViewInfo* info = view.impl()->view.get()) info->one_of_many = name;
  std::vector<Shape> shapes;
  for (const Tensor& view : views) shapes.push_back(view.shape());
  return record(
      name, std::move(views), {x}, {},
      [=, type = x.dtype(), device = x.device()](const Backward& ctx) -> Tensors {
        Tensors gradients;
        for (std::size_t i = 0; i < shapes.size(); ++i)
          gradients.push_back(ctx.grad(i).defined() ? ctx.grad(i) : Tensor::zeros(shapes[i], type, device));
        return {join(gradients, dim)};
      });
}

}  // namespace

Tensors unbind(const Tensor& x, std::int64_t dim) {
  const std::size_t d = wrap_dim("unbind", dim, x.rank());
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape.erase(d);
  strides.erase(d);
  Tensors views;
  for (std::int64_t i = 0; i < x.shape()[d]; ++i)
    views.push_back(make_view(x, shape, strides, x.storage_offset() + i * x.strides()[d]));
  return record_views("unbind", x, std::move(views), stack, static_cast<std::int64_t>(d));
}

Tensors split(const Tensor& x, std::int64_t size, std::int64_t dim) {
  const std::size_t d = wrap_dim("split", dim, x.rank());
  if (size <= 0) throw ShapeError("split: pieces of size " + std::to_string(size) + ", expected at least 1");
  Tensors views;
  for (std::int64_t start = 0, whole = x.shape()[d]; start < std::max<std::int64_t>(whole, 1);
       start += size) {
    Shape shape = x.shape();
    shape[d] = std::min(size, whole - start);
    views.push_back(make_view(x, shape, x.strides(), x.storage_offset() + start * x.strides()[d]));
  }
  return record_views("split", x, std::move(views), cat, static_cast<std::int64_t>(d));
}

Tensors chunk(const Tensor& x, std::int64_t count, std::int64_t dim) {
  if (count <= 0)
    throw ShapeError("chunk: " + std::to_string(count) + " pieces asked for, expected at least 1");
  const std::int64_t whole = x.size(dim);
  return split(x, std::max<std::int64_t>((whole + count - 1) / count, 1), dim);
}

Tensor unsqueeze(const Tensor& x, std::int64_t dim) {
  const std::size_t d = wrap_dim("unsqueeze", dim, x.rank() + 1);
  Shape shape = x.shape();
  Strides strides = x.strides();
  strides.insert(d, d < x.rank() ? shape[d] * strides[d] : 1);
  shape.insert(d, 1);
  return view_as("unsqueeze", x, shape, strides);
}

Tensor squeeze(const Tensor& x, std::int64_t dim) {
  const std::size_t d = wrap_dim("squeeze", dim, x.rank());
  if (x.shape()[d] != 1) return x;
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape.erase(d);
  strides.erase(d);
  return view_as("squeeze", x, shape, strides);
}

// dx: each element of dy is added where it was read
Tensor as_strided(const Tensor& x, const Shape& shape, const Strides& strides, std::int64_t offset) {
  std::int64_t span = 1, last = offset;
  for (std::size_t d = 0; d < x.rank(); ++d)
    span += std::max<std::int64_t>(x.shape()[d] - 1, 0) * x.strides()[d];
  if (shape.size() != strides.size())
    throw ShapeError("as_strided: shape " + to_string(shape) + " and strides " + to_string(strides) +
                     " differ in length");
  for (std::size_t d = 0; d < shape.size(); ++d) last += std::max<std::int64_t>(shape[d] - 1, 0) * strides[d];
  if (offset < 0 || (numel(shape) > 0 && last >= span))
    throw ShapeError("as_strided: shape " + to_string(shape) + ", strides " + to_string(strides) +
                     " and offset " + std::to_string(offset) + " reach outside the tensor's " +
                     std::to_string(span) + " elements");
  const Shape x_shape = x.shape();
  const Strides x_strides = x.strides();
  return record("as_strided", make_view(x, shape, strides, x.storage_offset() + offset), {x}, {},
                [=](const Backward& ctx) -> Tensors {
                  const Tensor index = memory_index(shape, strides, offset, ctx.grad().device());
                  const Tensor memory = index_add(span, 0, index, reshape(ctx.grad(), {index.numel()}));
                  return {as_strided(memory, x_shape, x_strides, 0)};
                });
}

}  // namespace grapnel
