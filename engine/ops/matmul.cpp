// Matrix products: C = A B for any strides, batches broadcast, and the linear layer's x W^T + b.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/ops/operands.h"

namespace grapnel {
namespace {

/// What gemm reads in place of b; null: nothing else.
template <class T>
std::shared_ptr<Storage> packed_b(const kernels::FloatKernels<T>& table, const kernels::Gemm& shape,
                                  const Tensor& b) {
  const auto [name, bytes] =
      table.gemm_packing && is_whole(b) ? table.gemm_packing(shape) : kernels::GemmPacking{};
  if (!name) return nullptr;
  const std::int64_t key[] = {reinterpret_cast<std::intptr_t>(name), shape.k};
  const auto pack = [&](void* to) { table.gemm_pack(shape, to, static_cast<const T*>(b.storage()->read())); };
  return b.storage()->derived({reinterpret_cast<const char*>(key), sizeof(key)}, bytes, pack);
}

/// (..., M, K) x (..., K, N) with equal batch dimensions (stride 0 allowed), plus bias (N) if set. Not
/// recorded.
Tensor multiply(const char* name, const Tensor& a, const Tensor& b, const Tensor& bias) {
  check_same_type(name, a, b);
  check_same_type(name, a, bias);
  const std::size_t batch_rank = a.rank() - 2;
  Shape shape = a.shape();
  shape[batch_rank + 1] = b.shape()[batch_rank + 1];
  Tensor out = a.new_empty(shape);
  dispatch(name, a, [&]<class T>(const kernels::FloatKernels<T>& table) {
    kernels::Gemm gemm{};
    gemm.m = shape[batch_rank];
    gemm.n = shape[batch_rank + 1];
    gemm.k = a.shape()[batch_rank + 1];
    gemm.a_row = a.strides()[batch_rank];
    gemm.a_col = a.strides()[batch_rank + 1];
    gemm.b_row = b.strides()[batch_rank];
    gemm.b_col = b.strides()[batch_rank + 1];
    gemm.c_row = gemm.n;
    const std::shared_ptr<Storage> packed = packed_b(table, gemm, b);
    if (packed) gemm.packed_b = packed->read();
    const std::int64_t matrix = gemm.m * gemm.n;
    for (std::int64_t i = 0, batches = matrix ? out.numel() / matrix : 0; i < batches; ++i) {
      std::int64_t a_offset = 0, b_offset = 0, rest = i;
      for (std::size_t d = batch_rank; d-- > 0; rest /= shape[d]) {
        a_offset += rest % shape[d] * a.strides()[d];
        b_offset += rest % shape[d] * b.strides()[d];
      }
      table.gemm(gemm, out.data<T>() + i * matrix, a.data<T>() + a_offset, b.data<T>() + b_offset,
                 bias.defined() ? bias.data<T>() : nullptr);
    }
  });
  return out;
}

Tensor swap_last(const Tensor& x) {
  return transpose(x, -2, -1);
}

/// C = A B on operands of equal batch shape: dA = dC B^T, dB = A^T dC.
Tensor batched(const Tensor& a, const Tensor& b) {
  return record("matmul", multiply("matmul", a, b, {}), {a, b},
                {keep_if(b.requires_grad(), a), keep_if(a.requires_grad(), b)},
                [](const Backward& ctx) -> Tensors {
                  return {ctx.needs(0) ? batched(ctx.grad(), swap_last(ctx.saved(1))) : Tensor(),
                          ctx.needs(1) ? batched(swap_last(ctx.saved(0)), ctx.grad()) : Tensor()};
                });
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (a.rank() == 0 || b.rank() == 0)
    throw ShapeError("matmul: expected vectors or matrices, got shapes " + to_string(a.shape()) + " and " +
                     to_string(b.shape()));
  Tensor left = a.rank() == 1 ? unsqueeze(a, 0) : a;
  Tensor right = b.rank() == 1 ? unsqueeze(b, 1) : b;
  const std::int64_t inner = left.size(-1);
  if (inner != right.size(-2))
    throw ShapeError("matmul: the inner sizes of shapes " + to_string(a.shape()) + " and " +
                     to_string(b.shape()) + " differ: " + std::to_string(inner) + " and " +
                     std::to_string(right.size(-2)));
  const auto batch_of = [](const Tensor& x) { return Shape(std::span(x.shape().data(), x.rank() - 2)); };
  const auto with_batch = [](const Tensor& x, Shape batch) {
    batch.push_back(x.size(-2));
    batch.push_back(x.size(-1));
    return x.shape() == batch ? x : expand(x, batch);
  };
  const Shape batch = broadcast_shapes("matmul", batch_of(left), batch_of(right));
  Tensor product = batched(with_batch(left, batch), with_batch(right, batch));
  if (a.rank() == 1) product = squeeze(product, -2);
  if (b.rank() == 1) product = squeeze(product, -1);
  return product;
}

// y = x W^T + b: dx = dy W, dW = dy^T x, db = sum of dy over rows
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_rank("linear", weight, 2, "(out, in)");
  if (x.rank() == 0 || x.size(-1) != weight.shape()[1])
    throw ShapeError("linear: an input of shape " + to_string(x.shape()) +
                     " does not fit a weight of shape (out, in) = " + to_string(weight.shape()) +
                     ": its last size must be " + std::to_string(weight.shape()[1]));
  if (bias.defined() && bias.shape() != Shape{weight.shape()[0]})
    throw ShapeError("linear: the bias has shape " + to_string(bias.shape()) + ", expected (" +
                     std::to_string(weight.shape()[0]) + ",)");
  const Tensor rows =
      x.rank() == 2 ? x : reshape(x, {numel(x.shape()) / std::max<std::int64_t>(x.size(-1), 1), x.size(-1)});
  const Tensor weight_t =
      Tensor::view_of(weight.storage(), weight.storage_offset(), {weight.shape()[1], weight.shape()[0]},
                      {weight.strides()[1], weight.strides()[0]}, weight.dtype());
  const Tensor dense_bias = bias.defined() ? bias.detach().contiguous() : bias;
  Tensor y = record("linear", multiply("linear", rows, weight_t, dense_bias), {rows, weight, bias},
                    {keep_if(weight.requires_grad(), rows), keep_if(rows.requires_grad(), weight)},
                    [](const Backward& ctx) -> Tensors {
                      const Tensor& dy = ctx.grad();
                      return {ctx.needs(0) ? matmul(dy, ctx.saved(1)) : Tensor(),
                              ctx.needs(1) ? matmul(transpose(dy, 0, 1), ctx.saved(0)) : Tensor(),
                              ctx.needs(2) ? sum(dy, {0}) : Tensor()};
                    });
  if (x.rank() == 2) return y;
  Shape shape = x.shape();
  shape[shape.size() - 1] = weight.shape()[0];
  return reshape(y, shape);
}

}  // namespace grapnel
