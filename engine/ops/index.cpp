// Reading at given indices and adding to given indices: adjoint to each other.
#include "grapnel/engine/backend.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"

namespace grapnel {
namespace {

/// A tensor as (outer, size, inner) around one dimension.
struct Around {
  std::int64_t outer = 1, inner = 1;
  Around(const Shape& shape, std::size_t dim) {
    for (std::size_t d = 0; d < shape.size(); ++d)
      if (d != dim) (d < dim ? outer : inner) *= shape[d];
  }
};

/// A dense int64 copy or view of the index into x, whose entries must lie in [0, size).
Tensor checked_index(const char* name, const Tensor& x, const Tensor& index, std::int64_t size) {
  if (index.dtype() != DType::int64)
    throw TypeError(std::string(name) + ": the index must hold int64, got " +
                    std::string(grapnel::name(index.dtype())));
  if (index.device() != x.device())
    throw DeviceError(std::string(name) + ": the index is on " + to_string(index.device()) +
                      ", the values are on " + to_string(x.device()) + "; move one of them with Tensor::to");
  Tensor dense = index.contiguous();
  check_indices(name, "index", dense, size);
  return dense;
}

Tensor dense_values(const Tensor& x) {
  return x.detach().contiguous();
}

void check_gather_shape(const char* name, const Shape& shape, const Tensor& index, std::size_t dim) {
  Shape expected = shape;
  if (index.rank() == shape.size()) expected[dim] = index.shape()[dim];
  if (index.shape() != expected)
    throw ShapeError(std::string(name) + ": an index of shape " + to_string(index.shape()) +
                     " does not fit " + to_string(shape) + " along dimension " + std::to_string(dim));
}

}  // namespace

Tensor index_select(const Tensor& x, std::int64_t dim, const Tensor& index) {
  const std::size_t d = wrap_dim("index_select", dim, x.rank());
  check_rank("index_select", index, 1, "(count,)");
  const std::int64_t size = x.shape()[d];
  const Tensor dense_index = checked_index("index_select", x, index, size);
  Shape shape = x.shape();
  shape[d] = index.numel();
  Tensor y = x.new_empty(shape);
  const Around around(shape, d);
  dispatch("index_select", x, [&]<class T>(const kernels::FloatKernels<T>& table) {
    table.index_select(around.outer, size, index.numel(), around.inner, y.data<T>(),
                       dense_values(x).data<T>(), dense_index.data<std::int64_t>());
  });
  return record("index_select", y, {x}, {dense_index}, [d, size](const Backward& ctx) -> Tensors {
    return {index_add(size, static_cast<std::int64_t>(d), ctx.saved(0), ctx.grad())};
  });
}

Tensor index_add(std::int64_t size, std::int64_t dim, const Tensor& index, const Tensor& y) {
  const std::size_t d = wrap_dim("index_add", dim, y.rank());
  check_rank("index_add", index, 1, "(count,)");
  if (index.numel() != y.shape()[d])
    throw ShapeError("index_add: " + std::to_string(index.numel()) + " indices for values of shape " +
                     to_string(y.shape()) + " along dimension " + std::to_string(dim));
  const Tensor dense_index = checked_index("index_add", y, index, size);
  Shape shape = y.shape();
  shape[d] = size;
  Tensor x = y.new_zeros(shape);
  const Around around(shape, d);
  dispatch("index_add", y, [&]<class T>(const kernels::FloatKernels<T>& table) {
    table.index_add(around.outer, size, index.numel(), around.inner, x.data<T>(), dense_values(y).data<T>(),
                    dense_index.data<std::int64_t>());
  });
  return record("index_add", x, {y}, {dense_index}, [d](const Backward& ctx) -> Tensors {
    return {index_select(ctx.grad(), static_cast<std::int64_t>(d), ctx.saved(0))};
  });
}

Tensor gather(const Tensor& x, std::int64_t dim, const Tensor& index) {
  const std::size_t d = wrap_dim("gather", dim, x.rank());
  check_gather_shape("gather", x.shape(), index, d);
  const std::int64_t size = x.shape()[d];
  const Tensor dense_index = checked_index("gather", x, index, size);
  Tensor y = x.new_empty(index.shape());
  const Around around(index.shape(), d);
  dispatch("gather", x, [&]<class T>(const kernels::FloatKernels<T>& table) {
    table.gather(around.outer, size, index.shape()[d], around.inner, y.data<T>(), dense_values(x).data<T>(),
                 dense_index.data<std::int64_t>());
  });
  return record("gather", y, {x}, {dense_index}, [d, size](const Backward& ctx) -> Tensors {
    return {scatter_add(size, static_cast<std::int64_t>(d), ctx.saved(0), ctx.grad())};
  });
}

Tensor scatter_add(std::int64_t size, std::int64_t dim, const Tensor& index, const Tensor& y) {
  const std::size_t d = wrap_dim("scatter_add", dim, y.rank());
  check_gather_shape("scatter_add", y.shape(), index, d);
  const Tensor dense_index = checked_index("scatter_add", y, index, size);
  Shape shape = y.shape();
  shape[d] = size;
  Tensor x = y.new_zeros(shape);
  const Around around(index.shape(), d);
  dispatch("scatter_add", y, [&]<class T>(const kernels::FloatKernels<T>& table) {
    table.scatter_add(around.outer, size, index.shape()[d], around.inner, x.data<T>(),
                      dense_values(y).data<T>(), dense_index.data<std::int64_t>());
  });
  return record("scatter_add", x, {y}, {dense_index}, [d](const Backward& ctx) -> Tensors {
    return {gather(ctx.grad(), static_cast<std::int64_t>(d), ctx.saved(0))};
  });
}

}  // namespace grapnel
