// A convolution whose sums blocks share, and the max pooling behind it: the kernel that adds up what they
// left finds the maxima of its windows, and the convolution's result is never in memory.
#pragma once

#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/conv2d/conv_shape.cuh"
#include "grapnel/kernels/gemm/tiled.cuh"
#include "grapnel/kernels/pool2d/maximum.cuh"

namespace grapnel::kernels {

/// Windows of which none shares a pixel with another, so that nothing is added up twice; the last ones may
/// stick out.
struct MaxWindows {
  int kernel_h = 0, kernel_w = 0;  // 0: nothing is pooled
  int stride_h = 0, stride_w = 0, in_h = 0, in_w = 0;
  Divisor out_h = 0, out_w = 0;

  static bool describe(const Pool2d& p) {
    return p.stride_h >= p.kernel_h && p.stride_w >= p.kernel_w && p.pad_h == 0 && p.pad_w == 0 &&
           p.dil_h == 1 && p.dil_w == 1;
  }
  static MaxWindows of(const Pool2d& p) {
    const auto i = [](std::int64_t value) { return static_cast<int>(value); };
    return {i(p.kernel_h), i(p.kernel_w), i(p.stride_h), i(p.stride_w), i(p.h), i(p.w), p.oh, p.ow};
  }
};

/// `width` channels of a window a thread. Values become what T keeps before they are compared, as if they had
/// been in memory.
template <int width, class T>
GRAPNEL_KERNEL(kBlockThreads)
fold_maxima_kernel(ProductSizes s, MaxWindows windows, std::int64_t count, Epilogue<T, float> epilogue,
                   device::Global<T> out, device::Global<const float> partial) {
  device::after_previous();
  const std::int64_t at = width * element();
  if (at >= count) return;
  const int channels = s.groups * s.n;
  const auto window = static_cast<int>(at / channels), channel = static_cast<int>(at % channels);
  const Pixel o = pixel_of(window, windows.out_h, windows.out_w);
  const int top = o.h * windows.stride_h, left = o.w * windows.stride_w;
  Maximum<width> maximum;
  for (int h = top; h < top + windows.kernel_h && h < windows.in_h; ++h)
    for (int w = left; w < left + windows.kernel_w && w < windows.in_w; ++w) {
      const int pixel = (o.n * windows.in_h + h) * windows.in_w + w;
      const auto sums = sum_of_splits<width>(s, channel / s.n, pixel, channel % s.n, partial);
      auto values = finished(sums, epilogue, std::int64_t{pixel} * channels + channel, channel);
      GRAPNEL_UNROLL for (int k = 0; k < width; ++k) values[k] = as_kept<T>(values[k]);
      maximum.see(values, 0);
    }
  store_floats(out, at, maximum.best);
}

template <class T>
void fold_maxima(const char* name, const ProductSizes& s, const MaxWindows& windows,
                 const Epilogue<T, float>& epilogue, T* out, bool in_fours, const float* partial) {
  const std::int64_t pictures = s.m / (std::int64_t{windows.in_h} * windows.in_w);
  const std::int64_t count = pictures * windows.out_h * windows.out_w * s.groups * s.n;
  const auto run = [&]<int width>() {
    launch_each(name, count / width, fold_maxima_kernel<width, T>, s, windows, count, epilogue, out, partial);
  };
  in_fours ? run.template operator()<4>() : run.template operator()<1>();
}

}  // namespace grapnel::kernels
