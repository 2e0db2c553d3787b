// C = A B + bias on a GPU, any strides.
#include <limits>

#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/gemm/multiply.cuh"
#include "grapnel/kernels/gemm/strided.cuh"

namespace grapnel::kernels {
namespace {

/// Calls use(source), which lies along k if that stride is 1; four at once where they are aligned.
template <class Use>
void with_source(const float* data, int rows, int k, std::int64_t row_stride, std::int64_t k_stride,
                 const Use& use) {
  const bool along_k = k_stride == 1;
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  if (along_k && aligned && row_stride % 4 == 0 && k % 4 == 0)
    use(Strided<true, 4>{data, row_stride, k_stride, rows});
  else if (!along_k && aligned && row_stride == 1 && k_stride % 4 == 0 && rows % 4 == 0)
    use(Strided<false, 4>{data, row_stride, k_stride, rows});
  else
    use(Strided<true, 1>{data, row_stride, k_stride, rows});
}

void gemm(const Gemm& s, float* c, const float* a, const float* b, const float* bias) {
  for (const std::int64_t size : {s.m, s.n, s.k})
    if (size > std::numeric_limits<int>::max())
      throw DeviceFault("gemm: " + std::to_string(size) + " rows or columns at once");
  const int m = static_cast<int>(s.m), n = static_cast<int>(s.n), k = static_cast<int>(s.k);
  if (m == 0 || n == 0) return;
  with_source(a, m, k, s.a_row, s.a_col, [&](const auto& left) {
    with_source(b, n, k, s.b_col, s.b_row, [&](const auto& right) {
      run_precisely<128>("gemm", {1, m, n, k, 1}, left, right, StoreSum{c, bias, s.c_row});
    });
  });
}

}  // namespace

void fill_gemm_cuda(FloatKernels<float>& table) {
  table.gemm = gemm;
}

}  // namespace grapnel::kernels
