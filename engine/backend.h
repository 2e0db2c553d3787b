// The way from an operation to its kernel. Internal to the engine.
#pragma once

#include <string>

#include "grapnel/engine/tensor.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel {

/// The kernel table in use. Throws NameError if GRAPNEL_KERNEL names none that runs here, or
/// GRAPNEL_CONV no variant.
const kernels::Table& backend();

/// The table's kernels for element type T.
template <class T>
const kernels::FloatKernels<T>& kernels_of() {
  if constexpr (sizeof(T) == sizeof(float))
    return backend().f32;
  else
    return backend().f64;
}

/// Calls f(T{}) with T = float or double, the element type of x. Throws TypeError for others.
template <class F>
decltype(auto) dispatch(const char* operation, const Tensor& x, F&& f) {
  if (x.dtype() == DType::float32) return f(float{});
  if (x.dtype() == DType::float64) return f(double{});
  throw TypeError(std::string(operation) + ": expected float32 or float64, got " +
                  std::string(name(x.dtype())) + "; convert it with Tensor::to");
}

/// Throws TypeError unless y has x's element type (or is unset).
void check_same_type(const char* operation, const Tensor& x, const Tensor& y);

/// Throws ShapeError unless x has this many dimensions; `shape` names them, such as "(N, C, H, W)".
void check_rank(const char* operation, const Tensor& x, std::size_t rank, const char* shape);

/// Strides of `x` seen as the larger `shape`: 0 along what is repeated.
Strides broadcast_strides(const Tensor& x, const Shape& shape);

/// The loop nest over `shape` with one stride vector per operand: dimensions ordered by the first operand's
/// strides, those of size 1 dropped, neighbours merged where every operand allows it.
template <int Operands>
kernels::Loops<Operands> make_loops(const Shape& shape, const Strides* const (&strides)[Operands]);

/// channels_last if any of the tensors has the full shape and is dense in that order only.
MemoryFormat common_format(const Shape& shape, const Tensor& a, const Tensor& b);

}  // namespace grapnel
