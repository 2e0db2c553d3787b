// Functions of one or two operands on a GPU, a kernel a function.
#include <array>

#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/elementwise/nest.cuh"

#define GRAPNEL_FORMULA GRAPNEL_DEVICE
#include "grapnel/kernels/elementwise/formulas.h"

namespace grapnel::kernels {
namespace {

template <Unary op>
struct UnaryOf {
  double a, b;

  GRAPNEL_DEVICE float operator()(float x) const {
    float y = 0;
    with_unary<float>(op, a, b, [&](const auto& f) { y = f(x); });
    return y;
  }
};

template <Binary op>
struct BinaryOf {
  GRAPNEL_DEVICE float operator()(float x, float y) const {
    float z = 0;
    with_binary<float>(op, [&](const auto& f) { z = f(x, y); });
    return z;
  }
};

template <Unary op>
void run_unary(const Loops<2>& loops, float* out, const float* x, double a, double b) {
  apply("unary", UnaryOf<op>{a, b}, loops, out, x);
}

template <Binary op>
void run_binary(const Loops<3>& loops, float* out, const float* x, const float* y) {
  apply("binary", BinaryOf<op>{}, loops, out, x, y);
}

template <std::size_t... op>
constexpr auto all_unary(std::index_sequence<op...>) {
  return std::array{run_unary<static_cast<Unary>(op)>...};
}
template <std::size_t... op>
constexpr auto all_binary(std::index_sequence<op...>) {
  return std::array{run_binary<static_cast<Binary>(op)>...};
}

/// As many as the enumerations name: the last of each is here.
constexpr auto kUnary = all_unary(std::make_index_sequence<static_cast<std::size_t>(Unary::affine) + 1>{});
constexpr auto kBinary =
    all_binary(std::make_index_sequence<static_cast<std::size_t>(Binary::relu_grad) + 1>{});

void unary(Unary op, const Loops<2>& loops, float* out, const float* x, double a, double b) {
  kUnary[static_cast<std::size_t>(op)](loops, out, x, a, b);
}

void binary(Binary op, const Loops<3>& loops, float* out, const float* x, const float* y) {
  kBinary[static_cast<std::size_t>(op)](loops, out, x, y);
}

}  // namespace

void fill_elementwise_cuda(FloatKernels<float>& table) {
  table.unary = unary;
  table.binary = binary;
}

}  // namespace grapnel::kernels
