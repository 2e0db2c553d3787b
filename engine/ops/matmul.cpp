// Matrix products: C = A B for any strides, batches broadcast, and the linear layer's x W^T + b.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/ops/operands.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/recipe.h"

namespace grapnel {
namespace {

/// Of matrices, the last two dimensions of a (..., M, K) and b (..., K, N), into one that is dense.
kernels::Gemm describe(const Tensor& a, const Tensor& b) {
  const auto of = [](const Tensor& x, std::size_t from_last) {
    const std::size_t d = x.rank() - from_last;
    return std::pair(x.shape()[d], x.strides()[d]);
  };
  const auto [m, a_row] = of(a, 2);
  const auto [k, a_col] = of(a, 1);
  const auto [n, b_col] = of(b, 1);
  return {m, n, k, a_row, a_col, of(b, 2).second, b_col, n};
}

/// What gemm reads in place of b, a matrix; null: nothing else.
template <class T>
std::shared_ptr<Storage> packed_b(const kernels::FloatKernels<T>& table, const kernels::Gemm& shape,
                                  const Tensor& b) {
  const bool can_be = table.gemm_packing && b.rank() == 2 && is_whole(b);
  const auto [name, bytes] = can_be ? table.gemm_packing(shape) : kernels::GemmPacking{};
  if (!name) return nullptr;
  const std::int64_t key[] = {reinterpret_cast<std::intptr_t>(name), shape.k};
  const auto pack = [&](void* to) { table.gemm_pack(shape, to, static_cast<const T*>(b.storage()->read())); };
  return b.storage()->derived({reinterpret_cast<const char*>(key), sizeof(key)}, bytes, pack);
}

/// (..., M, K) x (..., K, N) with equal batch dimensions (stride 0 allowed). Not recorded.
Tensor multiply(const Tensor& a, const Tensor& b) {
  check_same_type("matmul", a, b);
  const std::size_t batch_rank = a.rank() - 2;
  Shape shape = a.shape();
  shape[batch_rank + 1] = b.shape()[batch_rank + 1];
  Tensor out = a.new_empty(shape);
  dispatch("matmul", a, [&]<class T>(const kernels::FloatKernels<T>& table) {
    kernels::Gemm gemm = describe(a, b);
    const std::shared_ptr<Storage> packed = packed_b(table, gemm, b);
    if (packed) gemm.packed_b = packed->read();
    const std::int64_t matrix = gemm.m * gemm.n;
    for (std::int64_t i = 0, batches = matrix ? out.numel() / matrix : 0; i < batches; ++i) {
      std::int64_t a_offset = 0, b_offset = 0, rest = i;
      for (std::size_t d = batch_rank; d-- > 0; rest /= shape[d]) {
        a_offset += rest % shape[d] * a.strides()[d];
        b_offset += rest % shape[d] * b.strides()[d];
      }
      table.gemm(gemm, out.data<T>() + i * matrix, a.data<T>() + a_offset, b.data<T>() + b_offset, nullptr);
    }
  });
  return out;
}

Tensor swap_last(const Tensor& x) {
  return transpose(x, -2, -1);
}

/// C = A B on operands of equal batch shape: dA = dC B^T, dB = A^T dC.
Tensor batched(const Tensor& a, const Tensor& b) {
  return record("matmul", multiply(a, b), {a, b},
                {keep_if(b.requires_grad(), a), keep_if(a.requires_grad(), b)},
                [](const Backward& ctx) -> Tensors {
                  return {ctx.needs(0) ? batched(ctx.grad(), swap_last(ctx.saved(1))) : Tensor(),
                          ctx.needs(1) ? batched(swap_last(ctx.saved(0)), ctx.grad()) : Tensor()};
                });
}

}  // namespace

template <class T>
void run_linear(T* out, const Tensor& x, const Tensor& weight, const T* bias, bool relu) {
  const kernels::FloatKernels<T>& table = kernels_of<T>(x.device());
  const Tensor transposed =
      Tensor::view_of(weight.storage(), weight.storage_offset(), {weight.shape()[1], weight.shape()[0]},
                      {weight.strides()[1], weight.strides()[0]}, weight.dtype());
  const auto values = [](const Tensor& of) {
    return static_cast<const T*>(of.storage()->read()) + of.storage_offset();
  };
  kernels::Gemm gemm = describe(x, transposed);
  gemm.relu = relu;
  const std::shared_ptr<Storage> packed = packed_b(table, gemm, transposed);
  if (packed) gemm.packed_b = packed->read();
  table.gemm(gemm, out, values(x), values(transposed), bias);
}

template void run_linear<float>(float*, const Tensor&, const Tensor&, const float*, bool);
template void run_linear<double>(double*, const Tensor&, const Tensor&, const double*, bool);

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
  check_same_type("linear", x, weight);
  check_same_type("linear", x, bias);
  const Tensor product = dispatch("linear", x, [&]<class T>(const kernels::FloatKernels<T>&) {
    std::shared_ptr<const Recipe> recipe = make_pooled<Recipe>(Step{Step::Kind::linear, rows, weight});
    if (bias.defined())
      recipe = make_pooled<Recipe>(std::move(recipe), Step{Step::Kind::affine, {}, bias.contiguous()});
    return cook(x, {rows.size(0), weight.size(0)}, std::move(recipe));
  });
  Tensor y = record("linear", product, {rows, weight, bias},
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
