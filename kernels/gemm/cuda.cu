// C = A B + bias on a GPU, any strides.
#include <limits>

#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/gemm/hopper.cuh"
#include "grapnel/kernels/gemm/strided.cuh"
#include "grapnel/kernels/gemm/thin.cuh"

namespace grapnel::kernels {
namespace {

/// Calls use(source), which lies along k if that stride is 1; four at once where they are aligned.
template <class Use>
void with_source(const float* data, int rows, int k, std::int64_t row_stride, std::int64_t k_stride,
                 const Use& use) {
  const bool along_k = k_stride == 1;
  const bool aligned = aligned_for_four({data});
  if (along_k && aligned && row_stride % 4 == 0 && k % 4 == 0)
    use(Strided<true, 4>{data, row_stride, k_stride, rows});
  else if (!along_k && aligned && row_stride == 1 && k_stride % 4 == 0 && rows % 4 == 0)
    use(Strided<false, 4>{data, row_stride, k_stride, rows});
  else
    use(Strided<true, 1>{data, row_stride, k_stride, rows});
}

/// Whether both operands lie as a product with few rows wants them.
bool is_thin(const Gemm& s, const float* a, const float* b) {
  return s.m <= kMostThinRows && s.a_col == 1 && s.b_row == 1 && s.k % 4 == 0 &&
         (s.m == 1 || s.a_row % 4 == 0) && (s.n == 1 || s.b_col % 4 == 0) && aligned_for_four({a, b});
}

/// Whether the kernel for Hopper makes it: in TF32 or bfloat16, both operands along k, in rows of whole
/// pieces of 16 bytes, and enough of each that a tile is not mostly zeros and a copy as bfloat16 is worth it.
bool runs_on_hopper(const Gemm& s, Precision precision) {
  const std::int64_t piece = precision == Precision::tf32 ? 4 : 8;
  return precision != Precision::fp32 && s.a_col == 1 && s.b_row == 1 && s.a_row >= s.k && s.b_col >= s.k &&
         s.k % piece == 0 && s.k >= 4 * piece && s.m >= 64 && s.n >= 64 && device::has_hopper();
}

template <class T>
void multiply_on_hopper(const Gemm& s, const float* a, const float* b, const StoreSum& output) {
  const ProductSizes sizes{1, static_cast<int>(s.m), static_cast<int>(s.n),
                           tiles_for(static_cast<int>(s.k), kHopperDepth<T>), 1};
  with_operand<T>("gemm", a, s.m, s.k, s.a_row, [&](const T* left, std::int64_t left_pitch) {
    with_operand<T>("gemm", b, s.n, s.k, s.b_col, [&](const T* right, std::int64_t right_pitch) {
      const auto run = [&]<int kN>() {
        run_hopper_product<T, kN>("gemm", sizes, matrix_rows(left, s.m, s.k, left_pitch, kHopperRows),
                                  matrix_rows(right, s.n, s.k, right_pitch, kN), output);
      };
      s.n > 64 ? run.template operator()<128>() : run.template operator()<64>();
    });
  });
}

void gemm(const Gemm& s, float* c, const float* a, const float* b, const float* bias) {
  for (const std::int64_t size : {s.m, s.n, s.k})
    if (size > std::numeric_limits<int>::max())
      throw DeviceFault("gemm: " + std::to_string(size) + " rows or columns at once");
  const int m = static_cast<int>(s.m), n = static_cast<int>(s.n), k = static_cast<int>(s.k);
  if (m == 0 || n == 0) return;
  const StoreSum output{c, bias, s.c_row};
  if (is_thin(s, a, b)) return run_thin_product("gemm", m, n, k, a, s.a_row, b, s.b_col, output);
  const Precision mode = precision();
  if (runs_on_hopper(s, mode))
    return mode == Precision::tf32 ? multiply_on_hopper<float>(s, a, b, output)
                                   : multiply_on_hopper<device::BFloat16>(s, a, b, output);
  with_source(a, m, k, s.a_row, s.a_col, [&](const auto& left) {
    with_source(b, n, k, s.b_col, s.b_row, [&](const auto& right) {
      run_precisely<128>("gemm", {1, m, n, k, 1}, left, right, output);
    });
  });
}

}  // namespace

void fill_gemm_cuda(FloatKernels<float>& table) {
  table.gemm = gemm;
}

}  // namespace grapnel::kernels
