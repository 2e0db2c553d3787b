// Shares the loop nest between threads and hands its planes to the loops of one instruction set (planes.h).
#include "grapnel/kernels/common/loop_nest.h"
#include "grapnel/kernels/elementwise/elementwise.h"
#include "grapnel/kernels/elementwise/reference.h"

namespace grapnel::kernels {
namespace {

template <class T, const ElementwisePlanes<T>& planes>
void unary(Unary op, const Loops<2>& loops, T* out, const T* x, double a, double b) {
  parallel_walk(loops, [&](const Plane<2>& plane, const std::int64_t* offsets) {
    planes.unary(op, plane, out + offsets[0], x + offsets[1], a, b);
  });
}

template <class T, const ElementwisePlanes<T>& planes>
void binary(Binary op, const Loops<3>& loops, T* out, const T* x, const T* y) {
  parallel_walk(loops, [&](const Plane<3>& plane, const std::int64_t* offsets) {
    planes.binary(op, plane, out + offsets[0], x + offsets[1], y + offsets[2]);
  });
}

template <class T, const ElementwisePlanes<T>& planes>
void fill(FloatKernels<T>& table) {
  table.unary = unary<T, planes>;
  table.binary = binary<T, planes>;
}

template <class T>
void fill_reference(FloatKernels<T>& table) {
  table.unary = reference::unary<T>;
  table.binary = reference::binary<T>;
}

}  // namespace

void fill_elementwise(FloatKernels<float>& table, Isa isa) {
  switch (isa) {
    case Isa::reference:
      return fill_reference(table);
    case Isa::portable:
      return fill<float, elementwise_portable>(table);
    case Isa::avx2:
      return fill<float, elementwise_avx2>(table);
    case Isa::avx512:
      return fill<float, elementwise_avx512>(table);
  }
}

void fill_elementwise(FloatKernels<double>& table, Isa isa) {
  if (isa == Isa::reference) return fill_reference(table);
  fill<double, elementwise_portable_f64>(table);
}

}  // namespace grapnel::kernels
