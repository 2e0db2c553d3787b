// The rows of the table: which product each instruction set runs.
#include "grapnel/kernels/gemm/gemm.h"

#include <algorithm>
#include <string_view>

#include "grapnel/kernels/gemm/reference.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {
namespace {

template <const MicroKernel& kernel>
void fast_gemm(const Gemm& shape, float* c, const float* a, const float* b, const float* bias) {
  if (shape.m == 0 || shape.n == 0) return;
  if (!thin_gemm(kernel, shape, c, a, b, bias)) packed_gemm(kernel, shape, c, a, b, bias);
  if (!shape.relu) return;
  parallel_for(shape.m, std::max<std::int64_t>(16384 / shape.n, 1),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i)
                   for (float *at = c + i * shape.c_row, *last = at + shape.n; at < last; ++at)
                     *at = *at < 0 ? 0 : *at;
               });
}

}  // namespace

const MicroKernel& chosen_microkernel() noexcept {
  const Table* table = select_cpu();
  const std::string_view name = table ? table->name : "";
  if (name == "avx512") return avx512_microkernel;
  if (name == "avx2") return avx2_microkernel;
  return portable_microkernel;
}

void fill_gemm(FloatKernels<float>& table, Isa isa) {
  switch (isa) {
    case Isa::reference:
      table.gemm = reference_gemm<float>;
      break;
    case Isa::portable:
      table.gemm = fast_gemm<portable_microkernel>;
      break;
    case Isa::avx2:
      table.gemm = fast_gemm<avx2_microkernel>;
      break;
    case Isa::avx512:
      table.gemm = fast_gemm<avx512_microkernel>;
      break;
  }
}

void fill_gemm(FloatKernels<double>& table, Isa) {
  table.gemm = reference_gemm<double>;
}

}  // namespace grapnel::kernels
