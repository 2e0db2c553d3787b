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
  int kernel_h = 0;  // 0: nothing is pooled
  Divisor kernel_w = 0;
  int stride_h = 0, stride_w = 0, in_h = 0, in_w = 0;
  Divisor out_h = 0, out_w = 0;

  static bool fit(const Pool2d& p) {
    return p.stride_h >= p.kernel_h && p.stride_w >= p.kernel_w && p.pad_h == 0 && p.pad_w == 0 &&
           p.dil_h == 1 && p.dil_w == 1;
  }
  static MaxWindows of(const Pool2d& p) {
    const auto i = [](std::int64_t value) { return static_cast<int>(value); };
    return {i(p.kernel_h), p.kernel_w, i(p.stride_h), i(p.stride_w), i(p.h), i(p.w), p.oh, p.ow};
  }
};

/// A window's channel a thread; sums of several pixels are added up side by side. Values become what T keeps
/// before they are compared, as if they had been in memory.
template <class T>
GRAPNEL_KERNEL(kBlockThreads)
fold_maxima_kernel(ProductSizes s, MaxWindows windows, std::int64_t count, Epilogue<T, float> epilogue,
                   device::Global<T> out, device::Global<const float> partial) {
  device::after_previous();
  const std::int64_t i = element();
  if (i >= count) return;
  constexpr int kTogether = 4;
  const int channels = s.groups * s.n, taps = windows.kernel_h * windows.kernel_w;
  const auto channel = static_cast<int>(i % channels);
  const Pixel o = pixel_of(static_cast<int>(i / channels), windows.out_h, windows.out_w);
  const std::int64_t first = std::int64_t{channel / s.n} * s.splits * s.m * s.n + channel % s.n;
  Maximum<1> maximum;
  for (int tap = 0; tap < taps; tap += kTogether) {
    std::int64_t at[kTogether];
    int pixels[kTogether];
    GRAPNEL_UNROLL for (int k = 0; k < kTogether; ++k) {
      const int h = o.h * windows.stride_h + (tap + k) / windows.kernel_w,
                w = o.w * windows.stride_w + (tap + k) % windows.kernel_w;
      pixels[k] = (o.n * windows.in_h + h) * windows.in_w + w;
      at[k] =
          tap + k < taps && h < windows.in_h && w < windows.in_w ? first + std::int64_t{pixels[k]} * s.n : -1;
    }
    const auto sums = sums_of_splits(s, at, partial);
    GRAPNEL_UNROLL for (int k = 0; k < kTogether; ++k) {
      if (at[k] < 0) continue;
      const auto value = finished(device::Vector<float, 1>{{sums[k]}}, epilogue,
                                  std::int64_t{pixels[k]} * channels + channel, channel);
      maximum.see({{as_kept<T>(value[0])}}, tap + k);
    }
  }
  store_floats(out, i, maximum.best);
}

template <class T>
void fold_maxima(const char* name, const ProductSizes& s, const MaxWindows& windows,
                 const Epilogue<T, float>& epilogue, T* out, const float* partial) {
  const std::int64_t pictures = s.m / (std::int64_t{windows.in_h} * windows.in_w);
  const std::int64_t count = pictures * windows.out_h * windows.out_w * s.groups * s.n;
  launch_each(name, count, fold_maxima_kernel<T>, s, windows, count, epilogue, out, partial);
}

}  // namespace grapnel::kernels
