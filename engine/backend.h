// The way from an operation to its kernel. Internal to the engine.
#pragma once

#include <string>

#include "grapnel/engine/tensor.h"
#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel {

/// The kernel table in use. Throws NameError if GRAPNEL_KERNEL names none that runs here, or
/// GRAPNEL_CONV no variant; DeviceError for a device that cannot be used.
const kernels::Table& backend(Device device);

/// The table's kernels for element type T.
template <class T>
const kernels::FloatKernels<T>& kernels_of(Device device) {
  if constexpr (sizeof(T) == sizeof(float))
    return backend(device).f32;
  else
    return backend(device).f64;
}

/// What f() gives; what a device's kernels complain of becomes a DeviceError of the operation.
template <class F>
decltype(auto) on_device(const char* operation, F&& f) {
  try {
    return f();
  } catch (const kernels::DeviceFault& fault) {
    throw DeviceError(std::string(operation) + ": " + fault.what());
  }
}

/// Calls f with the kernels of x's device for its element type, float or double. Throws TypeError for others,
/// and for double on other devices than the CPU.
template <class F>
decltype(auto) dispatch(const char* operation, const Tensor& x, F&& f) {
  const bool on_cpu = x.device().kind == Device::Kind::cpu;
  if (x.dtype() == DType::float32)
    return on_device(operation, [&]() -> decltype(auto) { return f(kernels_of<float>(x.device())); });
  if (x.dtype() == DType::float64 && on_cpu) return f(kernels_of<double>(x.device()));
  throw TypeError(std::string(operation) + ": expected float32" + (on_cpu ? " or float64" : "") + ", got " +
                  std::string(name(x.dtype())) + (on_cpu ? "" : " on " + to_string(x.device())) +
                  "; convert it with Tensor::to");
}

/// Throws TypeError unless y has x's element type, and DeviceError unless it is on x's device (or unset).
void check_same_type(const char* operation, const Tensor& x, const Tensor& y);

/// Throws ShapeError unless x has this many dimensions; `shape` names them, such as "(N, C, H, W)".
void check_rank(const char* operation, const Tensor& x, std::size_t rank, const char* shape);

/// Throws ShapeError unless every element of a dense int64 tensor lies in [0, size): "OPERATION: WHAT 7 is
/// outside 0..4". On another device than the CPU nobody waits for that: there the next copy to the CPU, or
/// synchronize, throws DeviceError. `operation` is a literal.
void check_indices(const char* operation, const char* what, const Tensor& index, std::int64_t size);

/// Strides of `x` seen as the larger `shape`: 0 along what is repeated.
Strides broadcast_strides(const Tensor& x, const Shape& shape);

/// The loop nest over `shape` with one stride vector per operand: dimensions ordered by the first operand's
/// strides, those of size 1 dropped, neighbours merged where every operand allows it.
template <int Operands>
kernels::Loops<Operands> make_loops(const Shape& shape, const Strides* const (&strides)[Operands]);

/// channels_last if any of the tensors has the full shape and is dense in that order only.
MemoryFormat common_format(const Shape& shape, const Tensor& a, const Tensor& b);

}  // namespace grapnel
