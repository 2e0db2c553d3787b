// Batch normalisation's passes over dense (rows, channels) on a GPU, and its work on a value a channel.
#include <cmath>

#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/common/fold.cuh"
#include "grapnel/kernels/pool2d/channels.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;
using Index = std::int64_t;

/// The first two moments about a pivot near the data, the first row: nothing is lost in double, however far
/// the mean is from zero.
struct Moments {
  Index rows, channels;
  const float* x;
  float *mean, *variance;

  GRAPNEL_DEVICE double pivot(Index c) const {
    const float first = load(Global<const float>(x), c);
    return std::isfinite(first) ? first : 0;
  }
  GRAPNEL_DEVICE void operator()(Index r, Index c, double* totals) const {
    const double d = load(Global<const float>(x), r * channels + c) - pivot(c);
    totals[0] += d;
    totals[1] += d * d;
  }
};

struct FinishMoments {
  Moments of;

  GRAPNEL_DEVICE void operator()(Index c, const double* totals) const {
    const double count = static_cast<double>(of.rows), shift = totals[0] / count;
    const double spread = totals[1] / count - shift * shift;
    const double pivot = of.rows > 0 ? of.pivot(c) : 0;
    store(Global<float>(of.mean), c, static_cast<float>(pivot + shift));
    store(Global<float>(of.variance), c, static_cast<float>(spread < 0 ? 0 : spread));
  }
};

struct Dots {
  Index channels;
  const float *dy, *x, *mean;

  GRAPNEL_DEVICE void operator()(Index r, Index c, double* totals) const {
    const double gradient = load(Global<const float>(dy), r * channels + c);
    const double centred = static_cast<double>(load(Global<const float>(x), r * channels + c)) -
                           load(Global<const float>(mean), c);
    totals[0] += gradient;
    totals[1] += gradient * centred;
  }
};

struct StoreDots {
  float *sum_dy, *dot;

  GRAPNEL_DEVICE void operator()(Index c, const double* totals) const {
    store(Global<float>(sum_dy), c, static_cast<float>(totals[0]));
    store(Global<float>(dot), c, static_cast<float>(totals[1]));
  }
};

template <int width>
GRAPNEL_KERNEL(kBlockThreads)
epilogue_kernel(Index count, Index channels, Epilogue<float> epilogue, Global<float> y,
                Global<const float> x) {
  after_previous();
  const Index i = width * element();
  if (i < count) store_finished(y, count, load_vector<width>(x, i), epilogue, i, i % channels);
}

template <int width>
GRAPNEL_KERNEL(kBlockThreads)
blend_kernel(Index count, Index channels, Global<float> dx, Global<const float> dy, Global<const float> x,
             Global<const float> mean, Global<const float> a, Global<const float> b, Global<const float> d) {
  after_previous();
  const Index i = width * element(), c = i % channels;
  if (i >= count) return;
  const auto dy_i = load_vector<width>(dy, i), x_i = load_vector<width>(x, i);
  const auto mean_c = load_vector<width>(mean, c), a_c = load_vector<width>(a, c);
  const auto b_c = load_vector<width>(b, c), d_c = load_vector<width>(d, c);
  Vector<float, width> result;
  GRAPNEL_UNROLL for (int k = 0; k < width; ++k) result[k] =
      a_c[k] * dy_i[k] + b_c[k] * (x_i[k] - mean_c[k]) + d_c[k];
  store_vector(dx, i, result);
}

GRAPNEL_DEVICE double value_or(Global<const float> p, Index c, double otherwise) {
  return p.data ? load(p, c) : otherwise;
}

GRAPNEL_KERNEL(kBlockThreads)
affine_kernel(Index channels, double eps, Global<float> scale, Global<float> shift, Global<const float> mean,
              Global<const float> variance, Global<const float> weight, Global<const float> bias) {
  after_previous();
  const Index c = element();
  if (c >= channels) return;
  const double s = value_or(weight, c, 1) / std::sqrt(static_cast<double>(load(variance, c)) + eps);
  store(scale, c, static_cast<float>(s));
  store(shift, c, static_cast<float>(value_or(bias, c, 0) - s * load(mean, c)));
}

GRAPNEL_KERNEL(kBlockThreads)
factors_kernel(Index rows, Index channels, double eps, bool training, Global<float> dweight, Global<float> a,
               Global<float> b, Global<float> d, Global<const float> sum_dy, Global<const float> dot,
               Global<const float> variance, Global<const float> weight) {
  after_previous();
  const Index c = element();
  if (c >= channels) return;
  const double s = 1 / std::sqrt(static_cast<double>(load(variance, c)) + eps);
  const double scale = s * value_or(weight, c, 1), dot_c = load(dot, c);
  const double share = training ? scale / static_cast<double>(rows) : 0;
  store(dweight, c, static_cast<float>(s * dot_c));
  store(a, c, static_cast<float>(scale));
  store(b, c, static_cast<float>(-share * s * s * dot_c));
  store(d, c, static_cast<float>(-share * load(sum_dy, c)));
}

GRAPNEL_KERNEL(kBlockThreads)
average_kernel(Index channels, double momentum, double factor, Global<float> running,
               Global<const float> batch) {
  after_previous();
  const Index c = element();
  if (c < channels)
    store(running, c,
          static_cast<float>((1 - momentum) * load(running, c) + momentum * factor * load(batch, c)));
}

void channel_moments(Index rows, Index channels, float* mean, float* variance, const float* x) {
  const Moments moments{rows, channels, x, mean, variance};
  fold_columns_of<2>("batch norm's statistics", rows, channels, 0, Add{}, moments, FinishMoments{moments});
}

void channel_dots(Index rows, Index channels, float* sum_dy, float* dot, const float* dy, const float* x,
                  const float* mean) {
  fold_columns_of<2>("batch norm's gradients", rows, channels, 0, Add{}, Dots{channels, dy, x, mean},
                     StoreDots{sum_dy, dot});
}

void channel_epilogue(Index rows, Index channels, float* y, const float* x, const Epilogue<float>& e) {
  const Index count = rows * channels;
  with_width(
      channels,
      [&](auto width) {
        launch_each("epilogue", count / width, epilogue_kernel<width>, count, channels, e, y, x);
      },
      y, x, e.scale, e.shift, e.residual, e.mask, e.after);
}

void channel_blend(Index rows, Index channels, float* dx, const float* dy, const float* x, const float* mean,
                   const float* a, const float* b, const float* d) {
  const Index count = rows * channels;
  with_width(
      channels,
      [&](auto width) {
        launch_each("batch norm's gradient", count / width, blend_kernel<width>, count, channels, dx, dy, x,
                    mean, a, b, d);
      },
      dx, dy, x, mean, a, b, d);
}

void channel_affine(Index channels, double eps, float* scale, float* shift, const float* mean,
                    const float* variance, const float* weight, const float* bias) {
  launch_each("batch norm", channels, affine_kernel, channels, eps, scale, shift, mean, variance, weight,
              bias);
}

void channel_factors(Index rows, Index channels, double eps, bool training, float* dweight, float* a,
                     float* b, float* d, const float* sum_dy, const float* dot, const float* variance,
                     const float* weight) {
  launch_each("batch norm's gradient", channels, factors_kernel, rows, channels, eps, training, dweight, a, b,
              d, sum_dy, dot, variance, weight);
}

void channel_average(Index channels, double momentum, double factor, float* running, const float* batch) {
  launch_each("batch norm's statistics", channels, average_kernel, channels, momentum, factor, running,
              batch);
}

}  // namespace

void fill_batch_norm_cuda(FloatKernels<float>& table) {
  table.channel_moments = channel_moments;
  table.channel_epilogue = channel_epilogue;
  table.channel_dots = channel_dots;
  table.channel_blend = channel_blend;
  table.channel_affine = channel_affine;
  table.channel_factors = channel_factors;
  table.channel_average = channel_average;
}

}  // namespace grapnel::kernels
