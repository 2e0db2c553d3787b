// Batch normalisation (Ioffe & Szegedy, 2015), per channel over rows = N*H*W values:
//   y = (x - mean) * s * weight + bias,   s = 1 / sqrt(var + eps).
// Evaluation uses constants for mean and var, so that y is affine in x. Training uses the batch's own, and
//   dx = s weight (dy - mean(dy) - xhat mean(dy xhat)),   xhat = (x - mean) s.
#include <array>
#include <bit>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/ops/operands.h"
#include "grapnel/engine/recipe.h"

namespace grapnel {
namespace {

/// Per-channel vectors, all of length C, dense.
struct Statistics {
  Tensor mean, variance;
};

Tensor per_channel(const Tensor& v) {
  return reshape(v, {1, v.numel(), 1, 1});
}

std::int64_t rows_of(const Tensor& x) {
  return x.size(0) * x.size(2) * x.size(3);
}

/// dx, dweight, dbias by the formulas above, written in recorded operations: for derivatives of this
/// gradient.
Tensors composed_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& running_mean,
                          const Tensor& running_var, bool training, double eps) {
  const Dims over{0, 2, 3};
  const Tensor mean = training ? grapnel::mean(x, over, true) : per_channel(running_mean);
  const Tensor centred = x - mean;
  const Tensor variance = training ? grapnel::mean(centred * centred, over, true) : per_channel(running_var);
  const Tensor s = pow(variance + eps, -0.5);
  const Tensor xhat = centred * s;
  const Tensor scale = weight.defined() ? s * per_channel(weight) : s;
  const Tensor dx =
      training ? scale * (dy - grapnel::mean(dy, over, true) - xhat * grapnel::mean(dy * xhat, over, true))
               : dy * scale;
  return {dx, sum(dy * xhat, over), sum(dy, over)};
}

/// The same in two passes over memory: the sums, then the blend a dy + b (x - mean) + d.
template <class T, class V>
Tensors fused_backward(const kernels::ActivationKernels<T, V>& table, const Tensor& dy, const Tensor& x,
                       const Tensor& weight, const Statistics& statistics, bool training, double eps,
                       bool want_dx) {
  const std::int64_t rows = rows_of(x), channels = x.size(1);
  const Elements<T> dy_rows(dy), x_rows(x);
  const auto vector = [&] { return x.new_empty({channels}); };
  const Tensor sum_dy = vector(), dot = vector(), dweight = vector(), a = vector(), b = vector(),
               d = vector();
  const V* mean = statistics.mean.data<V>();
  table.channel_dots(rows, channels, sum_dy.data<V>(), dot.data<V>(), dy_rows.data(), x_rows.data(), mean);
  kernels_of<V>(x.device())
      .channel_factors(rows, channels, eps, training, dweight.data<V>(), a.data<V>(), b.data<V>(),
                       d.data<V>(), sum_dy.data<V>(), dot.data<V>(), statistics.variance.data<V>(),
                       weight.defined() ? weight.data<V>() : nullptr);
  if (!want_dx) return {Tensor(), dweight, sum_dy};
  const NewActivation<T> dx(x, x.shape());
  table.channel_blend(rows, channels, dx.data(), dy_rows.data(), x_rows.data(), mean, a.data<V>(),
                      b.data<V>(), d.data<V>());
  return {dx.tensor(), dweight, sum_dy};
}

/// y = scale x + shift.
struct Affine {
  Tensor scale, shift;
};

template <class T>
void write_affine(const kernels::FloatKernels<T>& table, T* scale, T* shift, const Tensor& weight,
                  const Tensor& bias, const Statistics& statistics, double eps) {
  table.channel_affine(statistics.mean.numel(), eps, scale, shift, statistics.mean.data<T>(),
                       statistics.variance.data<T>(), weight.defined() ? weight.data<T>() : nullptr,
                       bias.defined() ? bias.data<T>() : nullptr);
}

/// Of a batch's own statistics.
template <class T>
Affine batch_affine(const kernels::FloatKernels<T>& table, const Tensor& weight, const Tensor& bias,
                    const Statistics& statistics, double eps) {
  const Shape channels = statistics.mean.shape();
  const Affine map{statistics.mean.new_empty(channels), statistics.mean.new_empty(channels)};
  write_affine(table, map.scale.data<T>(), map.shift.data<T>(), weight, bias, statistics, eps);
  return map;
}

/// Of running statistics: kept with the variance until one of the four changes.
template <class T>
Affine running_affine(const kernels::FloatKernels<T>& table, const Tensor& weight, const Tensor& bias,
                      const Statistics& statistics, double eps) {
  const std::int64_t channels = statistics.mean.numel();
  const std::int64_t shift_at = (channels + 15) / 16 * 16;  // as aligned as the scale
  std::array<std::uint64_t, 9> key{static_cast<std::uint64_t>(channels), std::bit_cast<std::uint64_t>(eps),
                                   static_cast<std::uint64_t>(statistics.variance.storage_offset())};
  std::uint64_t versions = 0;
  std::size_t at = 3;
  for (const Tensor* other : {&statistics.mean, &weight, &bias}) {
    if (other->defined()) {
      key[at] = other->storage()->id();
      key[at + 1] = static_cast<std::uint64_t>(other->storage_offset());
      versions += other->version();
    }
    at += 2;
  }
  const auto fill = [&](void* buffer) {
    T* scale = static_cast<T*>(buffer);
    write_affine(table, scale, scale + shift_at, weight, bias, statistics, eps);
  };
  const std::shared_ptr<Storage> kept = statistics.variance.storage()->derived(
      {reinterpret_cast<const char*>(key.data()), sizeof(key)},
      static_cast<std::size_t>(shift_at + channels) * sizeof(T), std::ref(fill), versions);
  const DType type = statistics.variance.dtype();
  return {Tensor::view_of(kept, 0, {channels}, {1}, type),
          Tensor::view_of(kept, shift_at, {channels}, {1}, type)};
}

/// dx = s weight dy, of evaluation.
Tensor evaluation_input_grad(const Tensor& dy, const Tensor& weight, const Statistics& statistics,
                             double eps) {
  if (grad_enabled()) {
    const Tensor s = pow(per_channel(statistics.variance) + eps, -0.5);
    return dy * (weight.defined() ? s * per_channel(weight) : s);
  }
  return dispatch("batch_norm", dy, [&]<class T>(const kernels::FloatKernels<T>& table) {
    return followed(dy, {Step::Kind::scale, running_affine(table, weight, {}, statistics, eps).scale});
  });
}

/// running = (1 - momentum) running + momentum * batch, with the unbiased variance.
template <class T>
void update_running(const kernels::FloatKernels<T>& table, const Tensor& running, const Tensor& batch,
                    double momentum, double factor) {
  table.channel_average(running.numel(), momentum, factor, running.data<T>(), batch.data<T>());
  running.storage()->bump_version();
}

void check_channels(const char* what, const Tensor& v, const Tensor& x) {
  check_same_type("batch_norm", x, v);
  if (v.defined() && (v.shape() != Shape{x.size(1)} || !v.is_contiguous()))
    throw ShapeError(std::string("batch_norm: ") + what + " must be dense with one value per channel, (" +
                     std::to_string(x.size(1)) + ",), got shape " + to_string(v.shape()));
}

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                  const Tensor& running_var, bool training, double momentum, double eps) {
  check_rank("batch_norm", x, 4, "(N, C, H, W)");
  check_channels("weight", weight, x);
  check_channels("bias", bias, x);
  check_channels("running_mean", running_mean, x);
  check_channels("running_var", running_var, x);
  const std::int64_t rows = rows_of(x), channels = x.size(1);
  if (!training && (!running_mean.defined() || !running_var.defined()))
    throw AutogradError("batch_norm: evaluation needs running_mean and running_var");
  if (training && rows < 2)
    throw ShapeError("batch_norm: training needs more than one value per channel, got an input of shape " +
                     to_string(x.shape()) + "; use eval(), or a larger batch or picture");

  Tensor y;
  Statistics statistics{running_mean.defined() ? running_mean.detach() : running_mean,
                        running_var.defined() ? running_var.detach() : running_var};
  dispatch_activation("batch_norm", x, [&]<class T, class V>(const kernels::ActivationKernels<T, V>& table) {
    const kernels::FloatKernels<V>& vectors = kernels_of<V>(x.device());
    if (training) {
      statistics = {x.new_empty({channels}), x.new_empty({channels})};
      if (!is_whole(x) || !x.storage()->compute_with_moments(statistics.mean, statistics.variance))
        table.channel_moments(rows, channels, statistics.mean.data<V>(), statistics.variance.data<V>(),
                              Elements<T>(x).data());
      if (running_mean.defined()) update_running(vectors, running_mean, statistics.mean, momentum, 1);
      if (running_var.defined())
        update_running(vectors, running_var, statistics.variance, momentum,
                       static_cast<double>(rows) / static_cast<double>(rows - 1));
    }
    auto [scale, shift] = training ? batch_affine(vectors, weight, bias, statistics, eps)
                                   : running_affine(vectors, weight, bias, statistics, eps);
    y = followed(x, {Step::Kind::affine, std::move(scale), std::move(shift)});
  });
  const bool keep_x = training || should_record({weight, bias});
  return record(
      "batch_norm", y, {x, weight, bias}, {keep_if(keep_x, x), weight, statistics.mean, statistics.variance},
      [training, eps](const Backward& ctx) -> Tensors {
        const Tensor &dy = ctx.grad(), weight_saved = ctx.saved(1);
        const Statistics used{ctx.saved(2), ctx.saved(3)};
        if (!training && !ctx.needs(1) && !ctx.needs(2))
          return {evaluation_input_grad(dy, weight_saved, used, eps), Tensor(), Tensor()};
        const Tensor x_saved = ctx.saved(0);
        Tensors gradients =
            grad_enabled()
                ? composed_backward(dy, x_saved, weight_saved, used.mean, used.variance, training, eps)
                : dispatch_activation("batch_norm", x_saved, [&](const auto& table) {
                    return fused_backward(table, dy, x_saved, weight_saved, used, training, eps,
                                          ctx.needs(0));
                  });
        for (std::size_t i = 0; i < gradients.size(); ++i)
          if (!ctx.needs(i)) gradients[i] = Tensor();
        return gradients;
      });
}

}  // namespace grapnel
