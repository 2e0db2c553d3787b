// Elementwise functions one element at a time: obviously right, for comparison.
#pragma once

#include <cstdint>

#include "grapnel/kernels/common/loop_nest.h"
#include "grapnel/kernels/elementwise/formulas.h"

namespace grapnel::kernels::reference {

template <class T>
void unary(Unary op, const Loops<2>& loops, T* out, const T* x, double a, double b) {
  with_unary<T>(op, a, b, [&](auto f) {
    for (std::int64_t i = 0; i < element_count(loops); ++i) {
      out[offset_of(loops, 0, i)] = f(x[offset_of(loops, 1, i)]);
    }
  });
}

template <class T>
void binary(Binary op, const Loops<3>& loops, T* out, const T* x, const T* y) {
  with_binary<T>(op, [&](auto f) {
    for (std::int64_t i = 0; i < element_count(loops); ++i) {
      out[offset_of(loops, 0, i)] = f(x[offset_of(loops, 1, i)], y[offset_of(loops, 2, i)]);
    }
  });
}

}  // namespace grapnel::kernels::reference
