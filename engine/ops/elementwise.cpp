#include "grapnel/engine/ops/elementwise.h"

#include <optional>

namespace grapnel {
namespace {

/// One loop over all elements, if the operands are dense in the same order: the common case, and the
/// cheapest.
template <int Operands, class... Rest>
std::optional<kernels::Loops<Operands>> flat_loops(const Tensor& out, const Rest&... operands) {
  const bool same = ((operands.strides() == out.strides() && operands.shape() == out.shape()) && ...);
  if (!same || !(out.is_contiguous() || out.is_contiguous(MemoryFormat::channels_last))) return std::nullopt;
  kernels::Loops<Operands> loops{};
  loops.rank = 1;
  loops.sizes[0] = out.numel();
  for (int i = 0; i < Operands; ++i) loops.strides[i][0] = 1;
  return loops;
}

void run_unary(const char* name, kernels::Unary op, const Tensor& out, const Tensor& x, double a, double b) {
  dispatch(name, x, [&]<class T>(const kernels::FloatKernels<T>& table) {
    if (x.numel() == 0) return;
    const Strides* strides[] = {&out.strides(), &x.strides()};
    const auto flat = flat_loops<2>(out, x);
    table.unary(op, flat ? *flat : make_loops<2>(x.shape(), strides), out.data<T>(), x.data<T>(), a, b);
  });
}

void run_binary(const char* name, kernels::Binary op, const Tensor& out, const Tensor& x, const Tensor& y) {
  check_same_type(name, x, y);
  dispatch(name, x, [&]<class T>(const kernels::FloatKernels<T>& table) {
    if (out.numel() == 0) return;
    if (const auto flat = flat_loops<3>(out, x, y))
      return table.binary(op, *flat, out.data<T>(), x.data<T>(), y.data<T>());
    const Strides x_strides = broadcast_strides(x, out.shape()),
                  y_strides = broadcast_strides(y, out.shape());
    const Strides* strides[] = {&out.strides(), &x_strides, &y_strides};
    table.binary(op, make_loops<3>(out.shape(), strides), out.data<T>(), x.data<T>(), y.data<T>());
  });
}

}  // namespace

Tensor apply_unary(const char* name, kernels::Unary op, const Tensor& x, double a, double b) {
  Tensor out = x.new_empty(x.shape(), x.suggested_format());
  run_unary(name, op, out, x, a, b);
  return out;
}

void apply_unary_inplace(const char* name, kernels::Unary op, const Tensor& x, double a, double b) {
  run_unary(name, op, x, x, a, b);
}

Tensor apply_binary(const char* name, kernels::Binary op, const Tensor& x, const Tensor& y) {
  const Shape shape = x.shape() == y.shape() ? x.shape() : broadcast_shapes(name, x.shape(), y.shape());
  Tensor out = x.new_empty(shape, common_format(shape, x, y));
  run_binary(name, op, out, x, y);
  return out;
}

void apply_binary_inplace(const char* name, kernels::Binary op, const Tensor& x, const Tensor& y) {
  if (!broadcasts_to(y.shape(), x.shape()))
    throw ShapeError(std::string(name) + ": an operand of shape " + to_string(y.shape()) +
                     " does not broadcast to the changed tensor's shape " + to_string(x.shape()));
  // An operand in the same memory at other places is read in full before anything is written.
  const bool overlaps = y.storage() == x.storage() && !(y.storage_offset() == x.storage_offset() &&
                                                        y.shape() == x.shape() && y.strides() == x.strides());
  run_binary(name, op, x, x, overlaps ? y.detach().clone() : y);
}

}  // namespace grapnel
