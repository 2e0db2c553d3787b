// softmax and log_softmax along one dimension, the maximum subtracted first.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"

namespace grapnel {
namespace {

/// Runs a row kernel along `dim` by moving that dimension last. Not recorded.
Tensor along(const char* name, const Tensor& x, std::size_t dim, bool logarithm) {
  if (x.shape()[dim] == 0) return x.detach();
  const auto d = static_cast<std::int64_t>(dim);
  const Tensor rows = transpose(x.detach(), d, -1).contiguous();
  Tensor out = x.new_empty(rows.shape());
  dispatch(name, x, [&]<class T>(const kernels::FloatKernels<T>& table) {
    const std::int64_t columns = x.shape()[dim];
    (logarithm ? table.log_softmax : table.softmax)(x.numel() / columns, columns, out.data<T>(),
                                                    rows.data<T>());
  });
  return transpose(out, d, -1).detach();
}

}  // namespace

// dx = y (dy - sum(dy y))
Tensor softmax(const Tensor& x, std::int64_t dim) {
  const std::size_t d = wrap_dim("softmax", dim, x.rank());
  Tensor y = along("softmax", x, d, false);
  return record("softmax", y, {x}, {y}, [dim](const Backward& ctx) -> Tensors {
    const Tensor y_saved = ctx.saved(0), weighted = ctx.grad() * y_saved;
    return {weighted - y_saved * sum(weighted, {dim}, true)};
  });
}

// dx = dy - exp(y) sum(dy)
Tensor log_softmax(const Tensor& x, std::int64_t dim) {
  const std::size_t d = wrap_dim("log_softmax", dim, x.rank());
  Tensor y = along("log_softmax", x, d, true);
  return record("log_softmax", y, {x}, {y}, [dim](const Backward& ctx) -> Tensors {
    return {ctx.grad() - exp(ctx.saved(0)) * sum(ctx.grad(), {dim}, true)};
  });
}

}  // namespace grapnel
