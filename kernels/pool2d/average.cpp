// Average pooling as two axis maps: the window's share of each axis, with the divisor shared out between
// them.
#include <algorithm>
#include <cstdint>

#include "grapnel/kernels/common/axis_map.h"
#include "grapnel/kernels/pool2d/pool2d.h"
#include "grapnel/kernels/pool2d/reference.h"

namespace grapnel::kernels {
namespace {

/// Adds the mean of inputs [begin, end) as one output, dividing by `count`.
void add_mean(AxisMap& map, std::int64_t begin, std::int64_t end, std::int64_t count) {
  for (std::int64_t i = begin; i < end; ++i) map.add(i, 1 / static_cast<double>(count));
  map.finish_output();
}

void window_map(AxisMap& map, std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                std::int64_t pad, bool count_pad) {
  map.begin(in);
  for (std::int64_t o = 0; o < out; ++o) {
    const std::int64_t start = o * stride - pad, stop = std::min(start + kernel, in + pad);
    const std::int64_t begin = std::max<std::int64_t>(start, 0), end = std::min(stop, in);
    add_mean(map, begin, end, count_pad ? stop - start : end - begin);
  }
}

void adaptive_map(AxisMap& map, std::int64_t in, std::int64_t out) {
  map.begin(in);
  for (std::int64_t o = 0; o < out; ++o) {
    const std::int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
    add_mean(map, begin, end, end - begin);
  }
}

void window_maps(PlaneMaps& maps, const Pool2d& s) {
  window_map(maps.rows, s.h, s.oh, s.kernel_h, s.stride_h, s.pad_h, s.count_include_pad);
  window_map(maps.columns, s.w, s.ow, s.kernel_w, s.stride_w, s.pad_w, s.count_include_pad);
}

void adaptive_maps(PlaneMaps& maps, const Pool2d& s) {
  adaptive_map(maps.rows, s.h, s.oh);
  adaptive_map(maps.columns, s.w, s.ow);
}

template <class T, void (&build)(PlaneMaps&, const Pool2d&)>
void average(const Pool2d& s, T* y, const T* x) {
  static thread_local PlaneMaps maps;
  build(maps, s);
  apply_axis_maps(maps, s.n, s.c, y, x);
}

template <class T, void (&build)(PlaneMaps&, const Pool2d&)>
void average_adjoint(const Pool2d& s, T* dx, const T* dy) {
  static thread_local PlaneMaps maps, transposed;
  build(maps, s);
  maps.transpose_into(transposed);
  apply_axis_maps(transposed, s.n, s.c, dx, dy);
}

template <class T>
void fill(FloatKernels<T>& table, Isa isa) {
  if (isa == Isa::reference) {
    table.avg_pool2d = reference::avg_pool2d<T>;
    table.avg_pool2d_adjoint = reference::avg_pool2d_adjoint<T>;
    table.adaptive_avg_pool2d = reference::adaptive_avg_pool2d<T>;
    table.adaptive_avg_pool2d_adjoint = reference::adaptive_avg_pool2d_adjoint<T>;
  } else {
    table.avg_pool2d = average<T, window_maps>;
    table.avg_pool2d_adjoint = average_adjoint<T, window_maps>;
    table.adaptive_avg_pool2d = average<T, adaptive_maps>;
    table.adaptive_avg_pool2d_adjoint = average_adjoint<T, adaptive_maps>;
  }
}

}  // namespace

void fill_avg_pool2d(FloatKernels<float>& table, Isa isa) {
  fill(table, isa);
}
void fill_avg_pool2d(FloatKernels<double>& table, Isa isa) {
  fill(table, isa);
}

}  // namespace grapnel::kernels
