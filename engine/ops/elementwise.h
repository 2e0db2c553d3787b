// Running one elementwise kernel over broadcast operands; shared by the elementwise operations.
#pragma once

#include "grapnel/engine/backend.h"
#include "grapnel/engine/ops.h"

namespace grapnel {

/// out = op(x) with parameters a, b; the result has x's memory format. Not recorded.
Tensor apply_unary(const char* name, kernels::Unary op, const Tensor& x, double a = 0, double b = 0);
/// The same, written over x. The caller has called check_inplace.
void apply_unary_inplace(const char* name, kernels::Unary op, const Tensor& x, double a = 0, double b = 0);

/// out = op(x, y), broadcast. Not recorded.
Tensor apply_binary(const char* name, kernels::Binary op, const Tensor& x, const Tensor& y);
/// x = op(x, y), y broadcast to x. The caller has called check_inplace.
void apply_binary_inplace(const char* name, kernels::Binary op, const Tensor& x, const Tensor& y);

}  // namespace grapnel
