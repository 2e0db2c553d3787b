// Sums, means, maxima and variances over dimensions.
#include <cmath>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/ops/operands.h"

namespace grapnel {
namespace {

Shape reduced_shape(const Shape& shape, const Dims& dims, bool keepdim) {
  Shape result = shape;
  for (std::size_t i = dims.size(); i-- > 0;) {
    if (keepdim)
      result[static_cast<std::size_t>(dims[i])] = 1;
    else
      result.erase(static_cast<std::size_t>(dims[i]));
  }
  return result;
}

/// Reduces wrapped `dims`, keeping them with size 1. Kept and reduced dimensions are ordered by stride and
/// merged, so that the kernel meets few, long runs.
Tensor reduce_keepdim(const char* name, kernels::Reduction op, const Tensor& x, const Dims& dims) {
  const Shape shape = reduced_shape(x.shape(), dims, true);
  const MemoryFormat format = x.suggested_format();
  Tensor out = x.new_empty(shape, format);
  if (out.numel() == 0) return out;
  Shape kept = x.shape(), reduced(x.rank(), 1);
  for (std::int64_t d : dims) {
    const auto dim = static_cast<std::size_t>(d);
    reduced[dim] = x.shape()[dim];
    kept[dim] = 1;
  }
  const auto run = [&]<class T, class V>(const kernels::ActivationKernels<T, V>& table, const T* values) {
    const Strides* kept_strides[] = {&x.strides(), &out.strides()};
    const Strides* reduced_strides[] = {&x.strides(), &x.strides()};
    const auto outer = make_loops<2>(kept, kept_strides), inner = make_loops<2>(reduced, reduced_strides);
    kernels::Reduce loops{};
    loops.kept_rank = outer.rank;
    loops.reduced_rank = inner.rank;
    for (int d = 0; d < outer.rank; ++d) {
      loops.kept_sizes[d] = outer.sizes[d];
      loops.x_kept_strides[d] = outer.strides[0][d];
      loops.out_strides[d] = outer.strides[1][d];
    }
    for (int d = 0; d < inner.rank; ++d) {
      loops.reduced_sizes[d] = inner.sizes[d];
      loops.x_reduced_strides[d] = inner.strides[0][d];
    }
    table.reduce(op, loops, out.data<V>(), values);
  };
  // What is kept as bfloat16 is read so: no floats are made of it.
  const Tensor halves = x.storage()->recipe() ? kept_bf16(x) : Tensor();
  if (halves.defined())
    on_device(name, [&] {
      run(backend(x.device()).bf16, static_cast<const kernels::BFloat16*>(halves.storage()->read()));
    });
  else
    dispatch(name, x, [&]<class T>(const kernels::FloatKernels<T>& table) {
      run(static_cast<const kernels::ActivationKernels<T>&>(table), static_cast<const T*>(x.data<T>()));
    });
  return out;
}

Tensor drop_dims(const Tensor& x, const Dims& dims) {
  return reshape(x, reduced_shape(x.shape(), dims, false));
}

std::int64_t count_of(const Tensor& x, const Dims& dims) {
  std::int64_t count = 1;
  for (std::int64_t d : dims) count *= x.shape()[static_cast<std::size_t>(d)];
  return count;
}

}  // namespace

// dx = dy repeated along the summed dimensions
Tensor sum(const Tensor& x, const Dims& dims, bool keepdim) {
  const Dims wrapped = wrap_dims("sum", dims, x.rank());
  const Shape shape = x.shape();
  const Tensor kept = record("sum", reduce_keepdim("sum", kernels::Reduction::sum, x, wrapped), {x}, {},
                             [shape](const Backward& ctx) -> Tensors { return {expand(ctx.grad(), shape)}; });
  return keepdim ? kept : drop_dims(kept, wrapped);
}

Tensor mean(const Tensor& x, const Dims& dims, bool keepdim) {
  return sum(x, dims, keepdim) / static_cast<double>(count_of(x, wrap_dims("mean", dims, x.rank())));
}

// The gradient is shared evenly by all elements equal to the maximum.
Tensor amax(const Tensor& x, const Dims& dims, bool keepdim) {
  const Dims wrapped = wrap_dims("amax", dims, x.rank());
  if (count_of(x, wrapped) == 0)
    throw ShapeError("amax: nothing to take the maximum of in a tensor of shape " + to_string(x.shape()));
  Tensor y = reduce_keepdim("amax", kernels::Reduction::max, x, wrapped);
  const Tensor kept = record("amax", y, {x}, {x, y}, [wrapped](const Backward& ctx) -> Tensors {
    const Tensor winners = equal(ctx.saved(0).detach(), ctx.saved(1).detach());
    return {ctx.grad() / sum(winners, wrapped, true) * winners};
  });
  return keepdim ? kept : drop_dims(kept, wrapped);
}

Tensor argmax(const Tensor& x, std::int64_t dim, bool keepdim) {
  const std::size_t d = wrap_dim("argmax", dim, x.rank());
  if (x.shape()[d] == 0)
    throw ShapeError("argmax: nothing to choose from in a tensor of shape " + to_string(x.shape()));
  Shape shape = x.shape();
  shape[d] = 1;
  Tensor index = Tensor::empty(shape, DType::int64, MemoryFormat::contiguous, x.device());
  NoGrad guard;
  const Tensor dense = x.contiguous();
  std::int64_t outer = 1, inner = 1;
  for (std::size_t i = 0; i < x.rank(); ++i) (i < d ? outer : inner) *= i == d ? 1 : x.shape()[i];
  dispatch("argmax", dense, [&]<class T>(const kernels::FloatKernels<T>& table) {
    table.argmax(outer, x.shape()[d], inner, index.data<std::int64_t>(), dense.data<T>());
  });
  return keepdim ? index : drop_dims(index, {static_cast<std::int64_t>(d)});
}

std::pair<Tensor, Tensor> max(const Tensor& x, std::int64_t dim, bool keepdim) {
  const Tensor index = argmax(x, dim, true);
  const Tensor values = gather(x, dim, index);
  if (keepdim) return {values, index};
  const Dims dropped{static_cast<std::int64_t>(wrap_dim("max", dim, x.rank()))};
  return {drop_dims(values, dropped), drop_dims(index, dropped)};
}

Tensor var(const Tensor& x, const Dims& dims, double correction, bool keepdim) {
  const Dims wrapped = wrap_dims("var", dims, x.rank());
  const Tensor centred = x - mean(x, wrapped, true);
  return sum(centred * centred, wrapped, keepdim) /
         std::max(static_cast<double>(count_of(x, wrapped)) - correction, 0.0);
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Dims dims;
  const std::size_t missing = x.rank() - shape.size();
  for (std::size_t d = 0; d < x.rank(); ++d)
    if (d < missing || (shape[d - missing] == 1 && x.shape()[d] != 1))
      dims.push_back(static_cast<std::int64_t>(d));
  return reshape(dims.empty() ? x : sum(x, dims, true), shape);
}

}  // namespace grapnel
