// Pooling on a GPU, a thread a pixel's channel or four of them: the gradients look for the windows that saw
// an input, in a fixed order, rather than scatter.
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/pool2d/channels.cuh"
#include "grapnel/kernels/pool2d/maximum.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;
using Index = std::int64_t;

struct Axis {
  int in, out, kernel, stride, pad, dilation;
};
struct Shape {
  Index inputs, outputs, channels;
  Axis h, w;
  bool count_include_pad;
};

/// Positions [first, last) of an axis: inputs or windows.
struct Span {
  int first, last;
};
/// Where window `o` starts, before the picture or in it.
GRAPNEL_DEVICE int start_of(const Axis& axis, int o) {
  return o * axis.stride - axis.pad;
}
/// Of the windows, each `reach` long, those over input `at`.
GRAPNEL_DEVICE Span windows_over(const Axis& axis, int reach, int at) {
  const int end = at + axis.pad, first = end - reach + axis.stride, last = end / axis.stride + 1;
  return {first > 0 ? first / axis.stride : 0, last < axis.out ? last : axis.out};
}
GRAPNEL_DEVICE Span dilated_windows_over(const Axis& axis, int at) {
  return windows_over(axis, (axis.kernel - 1) * axis.dilation + 1, at);
}

template <int width, class T>
GRAPNEL_KERNEL(kBlockThreads)
max_kernel(Shape s, Global<T> y, Global<std::uint8_t> taps, Global<const T> x) {
  after_previous();
  const Index at = width * element();
  if (at >= s.outputs) return;
  const Place o = place_of(at, s.h.out, s.w.out, s.channels);
  Maximum<width> maximum;
  for (int i = 0; i < s.h.kernel; ++i) {
    const int h = start_of(s.h, o.h) + i * s.h.dilation;
    if (h < 0 || h >= s.h.in) continue;
    for (int j = 0; j < s.w.kernel; ++j) {
      const int w = start_of(s.w, o.w) + j * s.w.dilation;
      if (w < 0 || w >= s.w.in) continue;
      maximum.see(load_floats<width>(x, index_of(o, h, w, s.h.in, s.w.in, s.channels)), i * s.w.kernel + j);
    }
  }
  store_floats(y, at, maximum.best);
  if (taps.data) store_vector(taps, at, maximum.winners);
}

/// dx: the gradients of the windows that this input won.
template <int width, class T>
GRAPNEL_KERNEL(kBlockThreads)
max_scatter_kernel(Shape s, Global<T> dx, Global<const T> dy, Global<const std::uint8_t> taps) {
  after_previous();
  const Index at = width * element();
  if (at >= s.inputs) return;
  const Place p = place_of(at, s.h.in, s.w.in, s.channels);
  const Span rows = dilated_windows_over(s.h, p.h), columns = dilated_windows_over(s.w, p.w);
  Vector<float, width> sums{};
  for (int oh = rows.first; oh < rows.last; ++oh) {
    const int i = p.h - start_of(s.h, oh);
    if (i % s.h.dilation != 0) continue;
    for (int ow = columns.first; ow < columns.last; ++ow) {
      const int j = p.w - start_of(s.w, ow), tap = i / s.h.dilation * s.w.kernel + j / s.w.dilation;
      if (j % s.w.dilation != 0) continue;
      const Index o = index_of(p, oh, ow, s.h.out, s.w.out, s.channels);
      const auto winners = load_vector<width>(taps, o);
      const auto values = load_floats<width>(dy, o);
      GRAPNEL_UNROLL for (int k = 0; k < width; ++k) sums[k] += winners[k] == tap ? values[k] : 0;
    }
  }
  store_floats(dx, at, sums);
}

/// A thread a channel: neighbours may have won at different places.
GRAPNEL_KERNEL(kBlockThreads)
max_gather_kernel(Shape s, Global<float> y, Global<const float> x, Global<const std::uint8_t> taps) {
  after_previous();
  const Index at = element();
  if (at >= s.outputs) return;
  const Place o = place_of(at, s.h.out, s.w.out, s.channels);
  const int tap = load(taps, at);
  const int h = start_of(s.h, o.h) + tap / s.w.kernel * s.h.dilation;
  const int w = start_of(s.w, o.w) + tap % s.w.kernel * s.w.dilation;
  const bool inside = h >= 0 && h < s.h.in && w >= 0 && w < s.w.in;
  store(y, at, inside ? load(x, index_of(o, h, w, s.h.in, s.w.in, s.channels)) : 0.0f);
}

/// The windows of average pooling: which inputs each sees, over how many it averages, and which see an input.
struct Sliding {
  static constexpr const char* kName = "avg_pool2d";

  GRAPNEL_DEVICE static Span inputs(const Axis& axis, int o) {
    const int first = start_of(axis, o), last = first + axis.kernel;
    return {first > 0 ? first : 0, last < axis.in ? last : axis.in};
  }
  GRAPNEL_DEVICE static int counted(const Axis& axis, int o, const Span& seen, bool with_pad) {
    if (!with_pad) return seen.last - seen.first;
    const int left = axis.in + axis.pad - start_of(axis, o);
    return left < axis.kernel ? left : axis.kernel;
  }
  GRAPNEL_DEVICE static Span windows(const Axis& axis, int at) { return windows_over(axis, axis.kernel, at); }
};

struct Adaptive {
  static constexpr const char* kName = "adaptive_avg_pool2d";

  /// [floor(i from / to), ceil((i + 1) from / to))
  GRAPNEL_DEVICE static Span share(int i, Index from, Index to) {
    return {static_cast<int>(i * from / to), static_cast<int>(((i + 1) * from + to - 1) / to)};
  }
  GRAPNEL_DEVICE static Span inputs(const Axis& axis, int o) { return share(o, axis.in, axis.out); }
  GRAPNEL_DEVICE static int counted(const Axis&, int, const Span& seen, bool) {
    return seen.last - seen.first;
  }
  GRAPNEL_DEVICE static Span windows(const Axis& axis, int at) { return share(at, axis.out, axis.in); }
};

/// What a window makes of a sum over its inputs, along one axis.
template <class Windows>
GRAPNEL_DEVICE double part_of(const Axis& axis, int o, const Span& seen, bool with_pad) {
  return 1 / static_cast<double>(Windows::counted(axis, o, seen, with_pad));
}

/// Of four blocks, for which nvcc spills nothing; left to itself it does, for the sake of more.
template <class Windows, int width, class T>
GRAPNEL_KERNEL(kBlockThreads, 4)
average_kernel(Shape s, Global<float> y, Global<const T> x) {
  after_previous();
  const Index at = width * element();
  if (at >= s.outputs) return;
  const Place o = place_of(at, s.h.out, s.w.out, s.channels);
  const Span rows = Windows::inputs(s.h, o.h), columns = Windows::inputs(s.w, o.w);
  double sums[width] = {};
  for (int h = rows.first; h < rows.last; ++h)
    for (int w = columns.first; w < columns.last; ++w) {
      const auto values = load_floats<width>(x, index_of(o, h, w, s.h.in, s.w.in, s.channels));
      GRAPNEL_UNROLL for (int k = 0; k < width; ++k) sums[k] += values[k];
    }
  const auto count = static_cast<float>(Windows::counted(s.h, o.h, rows, s.count_include_pad) *
                                        Windows::counted(s.w, o.w, columns, s.count_include_pad));
  Vector<float, width> result;
  GRAPNEL_UNROLL for (int k = 0; k < width; ++k) result[k] = static_cast<float>(sums[k]) / count;
  store_vector(y, at, result);
}

template <class Windows, int width, class T>
GRAPNEL_KERNEL(kBlockThreads)
average_adjoint_kernel(Shape s, Global<T> dx, Global<const float> dy) {
  after_previous();
  const Index at = width * element();
  if (at >= s.inputs) return;
  const Place p = place_of(at, s.h.in, s.w.in, s.channels);
  const Span rows = Windows::windows(s.h, p.h), columns = Windows::windows(s.w, p.w);
  double sums[width] = {};
  for (int oh = rows.first; oh < rows.last; ++oh) {
    const double part = part_of<Windows>(s.h, oh, Windows::inputs(s.h, oh), s.count_include_pad);
    for (int ow = columns.first; ow < columns.last; ++ow) {
      const double share = part * part_of<Windows>(s.w, ow, Windows::inputs(s.w, ow), s.count_include_pad);
      const auto values = load_vector<width>(dy, index_of(p, oh, ow, s.h.out, s.w.out, s.channels));
      GRAPNEL_UNROLL for (int k = 0; k < width; ++k) sums[k] += share * values[k];
    }
  }
  Vector<float, width> result;
  GRAPNEL_UNROLL for (int k = 0; k < width; ++k) result[k] = static_cast<float>(sums[k]);
  store_floats(dx, at, result);
}

/// Throws DeviceFault for more pixels than an int counts.
Shape shape_of(const char* name, const Pool2d& s) {
  const auto axis = [](auto... sizes) { return Axis{static_cast<int>(sizes)...}; };
  return {s.c * int_product(name, {s.n, s.h, s.w}),
          s.c * int_product(name, {s.n, s.oh, s.ow}),
          s.c,
          axis(s.h, s.oh, s.kernel_h, s.stride_h, s.pad_h, s.dil_h),
          axis(s.w, s.ow, s.kernel_w, s.stride_w, s.pad_w, s.dil_w),
          s.count_include_pad};
}

template <class T>
void max_pool2d(const Pool2d& pool, T* y, std::uint8_t* taps, const T* x) {
  const Shape s = shape_of("max_pool2d", pool);
  with_width(
      s.channels,
      [&](auto width) { launch_each("max_pool2d", s.outputs / width, max_kernel<width, T>, s, y, taps, x); },
      y, taps, x);
}
template <class T>
void max_pool2d_scatter(const Pool2d& pool, T* dx, const T* dy, const std::uint8_t* taps) {
  const Shape s = shape_of("max_pool2d", pool);
  with_width(
      s.channels,
      [&](auto width) {
        launch_each("max_pool2d", s.inputs / width, max_scatter_kernel<width, T>, s, dx, dy, taps);
      },
      dx, dy, taps);
}
void max_pool2d_gather(const Pool2d& pool, float* y, const float* x, const std::uint8_t* taps) {
  const Shape s = shape_of("max_pool2d", pool);
  launch_each("max_pool2d", s.outputs, max_gather_kernel, s, y, x, taps);
}

template <class Windows, class T>
void average(const Pool2d& pool, float* y, const T* x) {
  const Shape s = shape_of(Windows::kName, pool);
  with_width(
      s.channels,
      [&](auto width) {
        launch_each(Windows::kName, s.outputs / width, average_kernel<Windows, width, T>, s, y, x);
      },
      y, x);
}
template <class Windows, class T>
void average_adjoint(const Pool2d& pool, T* dx, const float* dy) {
  const Shape s = shape_of(Windows::kName, pool);
  with_width(
      s.channels,
      [&](auto width) {
        launch_each(Windows::kName, s.inputs / width, average_adjoint_kernel<Windows, width, T>, s, dx, dy);
      },
      dx, dy);
}

template <class T>
void fill(ActivationKernels<T, float>& table) {
  table.max_pool2d = max_pool2d<T>;
  table.max_pool2d_scatter = max_pool2d_scatter<T>;
  table.avg_pool2d = average<Sliding, T>;
  table.avg_pool2d_adjoint = average_adjoint<Sliding, T>;
  table.adaptive_avg_pool2d = average<Adaptive, T>;
  table.adaptive_avg_pool2d_adjoint = average_adjoint<Adaptive, T>;
}

}  // namespace

void fill_pool2d_cuda(FloatKernels<float>& table) {
  fill<float>(table);
  table.max_pool2d_gather = max_pool2d_gather;
}

void fill_pool2d_bf16_cuda(Table& table) {
  fill(table.bf16);
}

}  // namespace grapnel::kernels
