// Interpolation as two axis maps.
#include <cstdint>

#include "grapnel/kernels/common/axis_map.h"
#include "grapnel/kernels/interpolate/coordinates.h"
#include "grapnel/kernels/interpolate/interpolate.h"
#include "grapnel/kernels/interpolate/reference.h"

namespace grapnel::kernels {
namespace {

void interpolation_map(AxisMap& map, std::int64_t in, std::int64_t out, const Interpolate& shape) {
  map.begin(in);
  for (std::int64_t o = 0; o < out; ++o) {
    if (shape.bilinear) {
      const double at = source_coordinate(o, in, out, shape.align_corners);
      const auto before = static_cast<std::int64_t>(at);
      const double fraction = at - static_cast<double>(before);
      // The weight of the pixel beyond the last falls on the last.
      map.add(before, before + 1 < in ? 1 - fraction : 1);
      if (before + 1 < in && fraction > 0) map.add(before + 1, fraction);
    } else {
      map.add(nearest_source(o, in, out), 1);
    }
    map.finish_output();
  }
}

void interpolation_maps(PlaneMaps& maps, const Interpolate& s) {
  interpolation_map(maps.rows, s.h, s.oh, s);
  interpolation_map(maps.columns, s.w, s.ow, s);
}

template <class T>
void interpolate(const Interpolate& s, T* y, const T* x) {
  static thread_local PlaneMaps maps;
  interpolation_maps(maps, s);
  apply_axis_maps(maps, s.n, s.c, y, x);
}

template <class T>
void interpolate_adjoint(const Interpolate& s, T* dx, const T* dy) {
  static thread_local PlaneMaps maps, transposed;
  interpolation_maps(maps, s);
  maps.transpose_into(transposed);
  apply_axis_maps(transposed, s.n, s.c, dx, dy);
}

template <class T>
void fill(FloatKernels<T>& table, Isa isa) {
  table.interpolate = isa == Isa::reference ? reference::interpolate<T> : interpolate<T>;
  table.interpolate_adjoint =
      isa == Isa::reference ? reference::interpolate_adjoint<T> : interpolate_adjoint<T>;
}

}  // namespace

void fill_interpolate(FloatKernels<float>& table, Isa isa) {
  fill(table, isa);
}
void fill_interpolate(FloatKernels<double>& table, Isa isa) {
  fill(table, isa);
}

}  // namespace grapnel::kernels
