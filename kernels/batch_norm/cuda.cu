// Batch normalisation's passes over dense (rows, channels) on a GPU, and its work on a value a channel.
#include <cmath>

#include "grapnel/kernels/batch_norm/moments.cuh"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/pool2d/channels.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;
using Index = std::int64_t;

template <class T>
struct Dots {
  Index channels;
  const T *dy, *x;
  const float* mean;

  GRAPNEL_DEVICE void operator()(Index r, Index c, double* totals) const {
    const double gradient = float_of(load(Global<const T>(dy), r * channels + c));
    const double centred = static_cast<double>(float_of(load(Global<const T>(x), r * channels + c))) -
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

template <int width, class T>
GRAPNEL_KERNEL(kBlockThreads)
blend_kernel(Index count, Index channels, Global<T> dx, Global<const T> dy, Global<const T> x,
             Global<const float> mean, Global<const float> a, Global<const float> b, Global<const float> d) {
  after_previous();
  const Index i = width * element(), c = i % channels;
  if (i >= count) return;
  const auto dy_i = load_floats<width>(dy, i), x_i = load_floats<width>(x, i);
  const auto mean_c = load_vector<width>(mean, c), a_c = load_vector<width>(a, c);
  const auto b_c = load_vector<width>(b, c), d_c = load_vector<width>(d, c);
  Vector<float, width> result;
  GRAPNEL_UNROLL for (int k = 0; k < width; ++k) result[k] =
      a_c[k] * dy_i[k] + b_c[k] * (x_i[k] - mean_c[k]) + d_c[k];
  store_floats(dx, i, result);
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

template <class T>
void channel_dots(Index rows, Index channels, float* sum_dy, float* dot, const T* dy, const T* x,
                  const float* mean) {
  fold_columns_of<2>("batch norm's gradients", rows, channels, 0, Add{}, Dots<T>{channels, dy, x, mean},
                     StoreDots{sum_dy, dot});
}

template <class T>
void channel_epilogue(Index rows, Index channels, T* y, const T* x, const Epilogue<T, float>& e) {
  finish_rows(rows, channels, y, x, e);
}

template <class T>
void channel_blend(Index rows, Index channels, T* dx, const T* dy, const T* x, const float* mean,
                   const float* a, const float* b, const float* d) {
  const Index count = rows * channels;
  with_width(
      channels,
      [&](auto width) {
        launch_each("batch norm's gradient", count / width, blend_kernel<width, T>, count, channels, dx, dy,
                    x, mean, a, b, d);
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

template <class T>
void fill(ActivationKernels<T, float>& table) {
  table.channel_moments = channel_moments<T>;
  table.channel_epilogue = channel_epilogue<T>;
  table.channel_dots = channel_dots<T>;
  table.channel_blend = channel_blend<T>;
}

}  // namespace

void fill_batch_norm_cuda(FloatKernels<float>& table) {
  fill<float>(table);
  table.channel_affine = channel_affine;
  table.channel_factors = channel_factors;
  table.channel_average = channel_average;
}

void fill_batch_norm_bf16_cuda(Table& table) {
  fill(table.bf16);
}

}  // namespace grapnel::kernels
