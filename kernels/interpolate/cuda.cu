// Resampling on a GPU, a thread a pixel's channel or four of them; the adjoint looks for the outputs that
// read an input, in a fixed order, rather than scatter.
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/interpolate/coordinates.h"
#include "grapnel/kernels/pool2d/channels.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;
using Index = std::int64_t;

struct Axis {
  int in, out;
  bool bilinear, align_corners;
};

struct Shape {
  Index inputs, outputs, channels;
  Axis h, w;
};

/// The inputs that an output reads along one axis, and the share of the second; if that is 0, both are one.
struct Taps {
  int first, second;
  double share;
};

GRAPNEL_DEVICE Taps taps_of(const Axis& axis, int o) {
  if (!axis.bilinear) {
    const auto at = static_cast<int>(nearest_source(o, axis.in, axis.out));
    return {at, at, 0};
  }
  const double at = source_coordinate(o, axis.in, axis.out, axis.align_corners);
  const auto first = static_cast<int>(at);
  const double share = at - static_cast<double>(first);
  if (share > 0 && first + 1 < axis.in) return {first, first + 1, share};
  return {first, first, 0};
}

/// The value between two; infinities that have no share in it leave no NaN.
GRAPNEL_DEVICE double between(double a, double b, double share) {
  return share > 0 ? (1 - share) * a + share * b : a;
}

/// What an output reads of input `at` along one axis.
GRAPNEL_DEVICE double weight_of(const Taps& taps, int at) {
  return (taps.first == at ? 1 - taps.share : 0) + (taps.second == at ? taps.share : 0);
}

/// The first output that reads `at` or a later input: what outputs read never moves back.
GRAPNEL_DEVICE int first_reader(const Axis& axis, int at) {
  int low = 0, high = axis.out;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (taps_of(axis, middle).second < at)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

template <int width>
GRAPNEL_KERNEL(kBlockThreads)
forward_kernel(Shape s, Global<float> y, Global<const float> x) {
  after_previous();
  const Index i = width * element();
  if (i >= s.outputs) return;
  const Place o = place_of(i, s.h.out, s.w.out, s.channels);
  const Taps h = taps_of(s.h, o.h), w = taps_of(s.w, o.w);
  const auto at = [&](int row, int column) {
    return load_vector<width>(x, index_of(o, row, column, s.h.in, s.w.in, s.channels));
  };
  const auto a = at(h.first, w.first), b = at(h.first, w.second);
  const auto c = at(h.second, w.first), d = at(h.second, w.second);
  Vector<float, width> result;
  GRAPNEL_UNROLL for (int k = 0; k < width; ++k) result[k] =
      static_cast<float>(between(between(a[k], b[k], w.share), between(c[k], d[k], w.share), h.share));
  store_vector(y, i, result);
}

template <int width>
GRAPNEL_KERNEL(kBlockThreads)
adjoint_kernel(Shape s, Global<float> dx, Global<const float> dy) {
  after_previous();
  const Index i = width * element();
  if (i >= s.inputs) return;
  const Place p = place_of(i, s.h.in, s.w.in, s.channels);
  const int first_column = first_reader(s.w, p.w);
  double sums[width] = {};
  for (int oh = first_reader(s.h, p.h); oh < s.h.out; ++oh) {
    const Taps rows = taps_of(s.h, oh);
    if (rows.first > p.h) break;
    const double share = weight_of(rows, p.h);
    for (int ow = first_column; ow < s.w.out; ++ow) {
      const Taps columns = taps_of(s.w, ow);
      if (columns.first > p.w) break;
      const double weight = share * weight_of(columns, p.w);
      const auto values = load_vector<width>(dy, index_of(p, oh, ow, s.h.out, s.w.out, s.channels));
      GRAPNEL_UNROLL for (int k = 0; k < width; ++k) sums[k] += weight * values[k];
    }
  }
  Vector<float, width> result;
  GRAPNEL_UNROLL for (int k = 0; k < width; ++k) result[k] = static_cast<float>(sums[k]);
  store_vector(dx, i, result);
}

Shape shape_of(const Interpolate& s) {
  const auto axis = [&](Index in, Index out) {
    return Axis{static_cast<int>(in), static_cast<int>(out), s.bilinear, s.align_corners};
  };
  return {s.c * int_product("interpolate", {s.n, s.h, s.w}),
          s.c * int_product("interpolate", {s.n, s.oh, s.ow}), s.c, axis(s.h, s.oh), axis(s.w, s.ow)};
}

void interpolate(const Interpolate& resampling, float* y, const float* x) {
  const Shape s = shape_of(resampling);
  with_width(
      s.channels,
      [&](auto width) { launch_each("interpolate", s.outputs / width, forward_kernel<width>, s, y, x); }, y,
      x);
}
void interpolate_adjoint(const Interpolate& resampling, float* dx, const float* dy) {
  const Shape s = shape_of(resampling);
  with_width(
      s.channels,
      [&](auto width) { launch_each("interpolate", s.inputs / width, adjoint_kernel<width>, s, dx, dy); }, dx,
      dy);
}

}  // namespace

void fill_interpolate_cuda(FloatKernels<float>& table) {
  table.interpolate = interpolate;
  table.interpolate_adjoint = interpolate_adjoint;
}

}  // namespace grapnel::kernels
