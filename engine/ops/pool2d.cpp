// Pooling. Each pool is linear once its winners (if any) are known; its gradient is the adjoint map, and the
// adjoint's gradient is the pool again.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/ops/operands.h"
#include "grapnel/engine/recipe.h"

namespace grapnel {
namespace {

using kernels::Pool2d;

std::int64_t output_size(const char* name, std::int64_t size, std::int64_t kernel, std::int64_t stride,
                         std::int64_t pad, std::int64_t dilation, bool ceil_mode) {
  const std::int64_t reach = dilation * (kernel - 1) + 1;
  if (size + 2 * pad < reach)
    throw ShapeError(std::string(name) + ": a window of " + std::to_string(reach) +
                     " does not fit a padded size of " + std::to_string(size + 2 * pad));
  std::int64_t count = (size + 2 * pad - reach + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  // A window may not start beyond the input and its left padding.
  if (ceil_mode && (count - 1) * stride >= size + pad) --count;
  return count;
}

Pool2d describe(const char* name, const Tensor& x, const Pool2dOptions& options) {
  check_rank(name, x, 4, "(N, C, H, W)");
  const auto [kernel_h, kernel_w] = options.kernel;
  const std::int64_t stride_h = options.stride.first ? options.stride.first : kernel_h;
  const std::int64_t stride_w = options.stride.second ? options.stride.second : kernel_w;
  const auto [pad_h, pad_w] = options.padding;
  const auto [dil_h, dil_w] = options.dilation;
  if (kernel_h < 1 || kernel_w < 1 || stride_h < 1 || stride_w < 1 || dil_h < 1 || dil_w < 1)
    throw ShapeError(std::string(name) + ": kernel, stride and dilation must be at least 1");
  if (pad_h < 0 || pad_w < 0 || 2 * pad_h > kernel_h || 2 * pad_w > kernel_w)
    throw ShapeError(std::string(name) + ": the padding must be between 0 and half of the kernel");
  const Shape& s = x.shape();
  return {s[0],
          s[1],
          s[2],
          s[3],
          output_size(name, s[2], kernel_h, stride_h, pad_h, dil_h, options.ceil_mode),
          output_size(name, s[3], kernel_w, stride_w, pad_w, dil_w, options.ceil_mode),
          kernel_h,
          kernel_w,
          stride_h,
          stride_w,
          pad_h,
          pad_w,
          dil_h,
          dil_w,
          options.count_include_pad};
}

Shape input_shape(const Pool2d& p) {
  return {p.n, p.c, p.h, p.w};
}
Shape output_shape(const Pool2d& p) {
  return {p.n, p.c, p.oh, p.ow};
}
/// Beside `x`, of another type where one is given.
Tensor new_output(const Pool2d& p, const Tensor& x, std::optional<DType> type = {}) {
  return Tensor::empty(output_shape(p), type.value_or(x.dtype()), MemoryFormat::channels_last, x.device());
}

// y = x at the winners and dx = dy scattered to the winners: adjoint to each other.
Tensor gather_taps(const Pool2d& pool, const Tensor& x, const Tensor& taps);

Tensor scatter_taps(const Pool2d& pool, const Tensor& dy, const Tensor& taps) {
  Tensor dx;
  dispatch_activation(
      "max_pool2d_scatter", dy, [&]<class T, class V>(const kernels::ActivationKernels<T, V>& table) {
        const NewActivation<T> made(dy, input_shape(pool));
        table.max_pool2d_scatter(pool, made.data(), Elements<T>(dy).data(), taps.data<std::uint8_t>());
        dx = made.tensor();
      });
  return record("max_pool2d_scatter", dx, {dy}, {taps}, [pool](const Backward& ctx) -> Tensors {
    return {gather_taps(pool, ctx.grad(), ctx.saved(0))};
  });
}

Tensor gather_taps(const Pool2d& pool, const Tensor& x, const Tensor& taps) {
  Tensor y = new_output(pool, x);
  dispatch("max_pool2d_gather", x, [&]<class T>(const kernels::FloatKernels<T>& table) {
    table.max_pool2d_gather(pool, y.data<T>(), Elements<T>(x).data(), taps.data<std::uint8_t>());
  });
  return record("max_pool2d_gather", y, {x}, {taps}, [pool](const Backward& ctx) -> Tensors {
    return {scatter_taps(pool, ctx.grad(), ctx.saved(0))};
  });
}

enum class Average { sliding, adaptive };

/// Applies an average pool or its adjoint; the gradient of one is the other.
Tensor average(Average kind, bool adjoint, const Pool2d& pool, const Tensor& x) {
  const char* name = kind == Average::sliding
                         ? (adjoint ? "avg_pool2d_adjoint" : "avg_pool2d")
                         : (adjoint ? "adaptive_avg_pool2d_adjoint" : "adaptive_avg_pool2d");
  const bool sliding = kind == Average::sliding, same = !sliding && pool.h == pool.oh && pool.w == pool.ow;
  Tensor y;
  dispatch_activation(name, x, [&]<class T, class V>(const kernels::ActivationKernels<T, V>& table) {
    if (same) {  // a window has one element
      y = copied(x);
    } else if (adjoint) {
      const NewActivation<T> made(x, input_shape(pool));
      const auto kernel = sliding ? table.avg_pool2d_adjoint : table.adaptive_avg_pool2d_adjoint;
      kernel(pool, made.data(), Elements<V>(x).data());
      y = made.tensor();
    } else {
      y = new_output(pool, x);
      const auto kernel = sliding ? table.avg_pool2d : table.adaptive_avg_pool2d;
      kernel(pool, y.data<V>(), Elements<T>(x).data());
    }
  });
  return record(name, y, {x}, {}, [kind, adjoint, pool](const Backward& ctx) -> Tensors {
    return {average(kind, !adjoint, pool, ctx.grad())};
  });
}

}  // namespace

Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options) {
  const Pool2d pool = describe("max_pool2d", x, options);
  if (pool.kernel_h * pool.kernel_w > 256)
    throw ShapeError("max_pool2d: a window of " + std::to_string(pool.kernel_h) + " x " +
                     std::to_string(pool.kernel_w) +
                     " has more than 256 positions; use amax for whole planes");
  const bool recording = should_record({x});
  if (!recording)
    if (auto y = joined(x, {Step::Kind::max_pool, {}, {}, {}, {}, pool})) return *std::move(y);
  Tensor y, taps = recording ? new_output(pool, x, DType::uint8) : Tensor();
  dispatch_activation("max_pool2d", x, [&]<class T, class V>(const kernels::ActivationKernels<T, V>& table) {
    const NewActivation<T> made(x, output_shape(pool));
    table.max_pool2d(pool, made.data(), recording ? taps.data<std::uint8_t>() : nullptr,
                     Elements<T>(x).data());
    y = made.tensor();
  });
  return record("max_pool2d", y, {x}, {taps}, [pool](const Backward& ctx) -> Tensors {
    return {scatter_taps(pool, ctx.grad(), ctx.saved(0))};
  });
}

Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options) {
  if (options.dilation != std::pair<std::int64_t, std::int64_t>{1, 1})
    throw ShapeError("avg_pool2d: takes no dilation");
  return average(Average::sliding, false, describe("avg_pool2d", x, options), x);
}

Tensor adaptive_avg_pool2d(const Tensor& x, std::int64_t out_h, std::int64_t out_w) {
  check_rank("adaptive_avg_pool2d", x, 4, "(N, C, H, W)");
  if (out_h < 1 || out_w < 1 || x.size(2) < 1 || x.size(3) < 1)
    throw ShapeError("adaptive_avg_pool2d: cannot pool " + to_string(x.shape()) + " to " +
                     std::to_string(out_h) + " x " + std::to_string(out_w));
  Pool2d pool{};
  pool.n = x.size(0);
  pool.c = x.size(1);
  pool.h = x.size(2);
  pool.w = x.size(3);
  pool.oh = out_h;
  pool.ow = out_w;
  return average(Average::adaptive, false, pool, x);
}

}  // namespace grapnel
