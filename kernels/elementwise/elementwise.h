// Unary and binary functions, element by element, over any strides. Read next: formulas.h, what each
// operation computes.
#pragma once

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/common/plane.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// The loops over one plane, compiled once per instruction set. Operand 0 is the output.
template <class T>
struct ElementwisePlanes {
  void (*unary)(Unary op, const Plane<2>& plane, T* out, const T* x, double a, double b);
  void (*binary)(Binary op, const Plane<3>& plane, T* out, const T* x, const T* y);
};

extern const ElementwisePlanes<float> elementwise_portable;
extern const ElementwisePlanes<double> elementwise_portable_f64;
extern const ElementwisePlanes<float> elementwise_avx2;
extern const ElementwisePlanes<float> elementwise_avx512;

void fill_elementwise(FloatKernels<float>& table, Isa isa);
void fill_elementwise(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
