// What every elementwise operation computes: the one place to read, or to add to.
//
// The conditions are written so that NaN comes out the way the README says, in scalar and in vector code.
// Everything is in an anonymous namespace and calls only C functions, because files compiled for wider
// instruction sets include it.
#pragma once

#include <math.h>

#include "grapnel/kernels/kernels.h"

/// How the functions below are declared; code for GPUs says it otherwise.
#ifndef GRAPNEL_FORMULA
#define GRAPNEL_FORMULA inline
#endif

namespace grapnel::kernels {
namespace {

GRAPNEL_FORMULA float exp_of(float x) {
  return expf(x);
}
GRAPNEL_FORMULA double exp_of(double x) {
  return ::exp(x);
}
GRAPNEL_FORMULA float log_of(float x) {
  return logf(x);
}
GRAPNEL_FORMULA double log_of(double x) {
  return ::log(x);
}
GRAPNEL_FORMULA float tanh_of(float x) {
  return tanhf(x);
}
GRAPNEL_FORMULA double tanh_of(double x) {
  return ::tanh(x);
}
GRAPNEL_FORMULA float pow_of(float x, float y) {
  return powf(x, y);
}
GRAPNEL_FORMULA double pow_of(double x, double y) {
  return ::pow(x, y);
}
GRAPNEL_FORMULA float sqrt_of(float x) {
  return sqrtf(x);
}
GRAPNEL_FORMULA double sqrt_of(double x) {
  return ::sqrt(x);
}
GRAPNEL_FORMULA float abs_of(float x) {
  return fabsf(x);
}
GRAPNEL_FORMULA double abs_of(double x) {
  return ::fabs(x);
}

/// Calls use(f) with the function T -> T that `op` stands for.
template <class T, class Use>
GRAPNEL_FORMULA void with_unary(Unary op, double first, double second, const Use& use) {
  const T a = static_cast<T>(first), b = static_cast<T>(second);
  switch (op) {
    case Unary::neg:
      return use([](T x) { return -x; });
    case Unary::exp:
      return use([](T x) { return exp_of(x); });
    case Unary::log:
      return use([](T x) { return log_of(x); });
    case Unary::sqrt:
      return use([](T x) { return sqrt_of(x); });
    case Unary::abs:
      return use([](T x) { return abs_of(x); });
    case Unary::sign:
      return use([](T x) { return static_cast<T>(x > 0 ? 1 : 0) - static_cast<T>(x < 0 ? 1 : 0); });
    case Unary::relu:
      return use([](T x) { return x < 0 ? T(0) : x; });
    case Unary::leaky_relu:
      return use([a](T x) { return x * (x > 0 ? T(1) : a); });
    case Unary::sigmoid:
      return use([](T x) { return 1 / (1 + exp_of(-x)); });
    case Unary::tanh:
      return use([](T x) { return tanh_of(x); });
    case Unary::reciprocal:
      return use([](T x) { return 1 / x; });
    case Unary::pow:
      if (a == 2)
        return use([](T x) { return x * x; });  // variances and losses: far faster than the general case
      return use([a](T x) { return pow_of(x, a); });
    case Unary::clamp:
      return use([a, b](T x) {
        const T raised = x < a ? a : x;
        return raised > b ? b : raised;
      });
    case Unary::between:
      return use([a, b](T x) { return static_cast<T>(((a <= x) & (x <= b)) ? 1 : 0); });
    case Unary::positive:
      return use([](T x) { return static_cast<T>(x > 0 ? 1 : 0); });
    case Unary::affine:
      return use([a, b](T x) { return a * x + b; });
  }
}

/// Calls use(f) with the function (T, T) -> T that `op` stands for.
template <class T, class Use>
GRAPNEL_FORMULA void with_binary(Binary op, const Use& use) {
  switch (op) {
    case Binary::add:
      return use([](T x, T y) { return x + y; });
    case Binary::sub:
      return use([](T x, T y) { return x - y; });
    case Binary::mul:
      return use([](T x, T y) { return x * y; });
    case Binary::div:
      return use([](T x, T y) { return x / y; });
    case Binary::pow:
      return use([](T x, T y) { return pow_of(x, y); });
    case Binary::maximum:
      return use([](T x, T y) { return ((x > y) | (x != x)) ? x : y; });
    case Binary::minimum:
      return use([](T x, T y) { return ((x < y) | (x != x)) ? x : y; });
    case Binary::equal:
      return use([](T x, T y) { return static_cast<T>(x == y ? 1 : 0); });
    case Binary::greater:
      return use([](T x, T y) { return static_cast<T>(x > y ? 1 : 0); });
    case Binary::relu_grad:
      return use([](T x, T y) { return y > 0 ? x : T(0); });
  }
}

}  // namespace
}  // namespace grapnel::kernels
