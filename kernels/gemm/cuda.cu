// C = A B + bias on a GPU, any strides.
#include <limits>

#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/gemm/fragments.cuh"
#include "grapnel/kernels/gemm/hopper.cuh"
#include "grapnel/kernels/gemm/strided.cuh"
#include "grapnel/kernels/gemm/thin.cuh"

namespace grapnel::kernels {
namespace {

/// Calls use(source), which lies along k if that stride is 1. For FMAs four elements are copied at once where
/// they are aligned; for tensor cores always pieces of 16 bytes, of a copy if need be.
template <class Way, class Use>
void with_source(const float* data, int rows, int k, std::int64_t row_stride, std::int64_t k_stride,
                 const Use& use) {
  const bool along_k = k_stride == 1 || row_stride != 1;
  if constexpr (std::is_same_v<Way, AsFloats>) {
    const bool aligned = aligned_for_four(data);
    if (k_stride == 1 && aligned && row_stride % 4 == 0 && k % 4 == 0)
      use(Strided<float, true, 4>{data, row_stride, k_stride, rows, 0});
    else if (!along_k && aligned && k_stride % 4 == 0 && rows % 4 == 0)
      use(Strided<float, false, 4>{data, row_stride, k_stride, rows, 0});
    else
      use(Strided<float, true, 1>{data, row_stride, k_stride, rows, 0});
  } else if (along_k) {
    with_operand<Way>("gemm", MatrixOf<float>{data, rows, k, row_stride, k_stride},
                      [&](const auto* operand, auto pitch) {
                        use(Strided<ElementOf<Way>, true, kPiece<Way>>{operand, pitch, 1, rows, 0});
                      });
  } else {
    with_operand<Way>("gemm", MatrixOf<float>{data, k, rows, k_stride, row_stride},
                      [&](const auto* operand, auto pitch) {
                        use(Strided<ElementOf<Way>, false, kPiece<Way>>{operand, 1, pitch, rows, 0});
                      });
  }
}

/// Whether both operands lie as a product with few rows wants them, if they are aligned.
bool is_thin(const Gemm& s) {
  return s.m <= kMostThinRows && s.a_col == 1 && s.b_row == 1 && s.k % 4 == 0 &&
         (s.m == 1 || s.a_row % 4 == 0) && (s.n == 1 || s.b_col % 4 == 0);
}

/// Whether the kernel for Hopper makes it: both operands along k, in rows of whole pieces of 16 bytes, and
/// enough of each that a tile is not mostly zeros and a copy as bfloat16 is worth it.
bool runs_on_hopper(const Gemm& s, Precision precision) {
  const std::int64_t piece = precision == Precision::tf32 ? 4 : 8;
  return s.a_col == 1 && s.b_row == 1 && s.a_row >= s.k && s.b_col >= s.k && s.k % piece == 0 &&
         s.k >= 4 * piece && s.m >= 64 && s.n >= 64 && device::has_hopper();
}

template <class Way>
void multiply_on_hopper(const Gemm& s, const float* a, const float* b, const StoreSum& output) {
  const ProductSizes sizes{1, static_cast<int>(s.m), static_cast<int>(s.n),
                           tiles_for(static_cast<int>(s.k), kHopperDepth<Way>), 1};
  with_operand<Way>("gemm", MatrixOf<float>{a, s.m, s.k, s.a_row, 1},
                    [&](const auto* left, std::int64_t left_pitch) {
                      const auto multiply = [&](const auto* right, std::int64_t right_pitch) {
                        run_hopper_product<Way>(
                            "gemm", sizes, matrix_rows<Way>(left, s.m, s.k, left_pitch, kHopperRows),
                            [&](std::uint32_t together) {
                              return matrix_rows<Way>(right, s.n, s.k, right_pitch, together);
                            },
                            output);
                      };
                      if (s.packed_b)
                        multiply(static_cast<const ElementOf<Way>*>(s.packed_b), s.k);
                      else
                        with_operand<Way>("gemm", MatrixOf<float>{b, s.n, s.k, s.b_col, 1}, multiply);
                    });
}

template <class Way>
void multiply_in_tiles(const Gemm& s, const float* a, const float* b, const StoreSum& output) {
  const int m = static_cast<int>(s.m), n = static_cast<int>(s.n), k = static_cast<int>(s.k);
  with_source<Way>(a, m, k, s.a_row, s.a_col, [&](const auto& left) {
    const auto multiply = [&](const auto& right) {
      if constexpr (std::is_same_v<Way, AsFloats>)
        run_float_product<128>("gemm", {1, m, n, k, 1}, left, right, output);
      else
        run_fragment_product<Way>("gemm", {1, m, n, k, 1}, left, right, output);
    };
    if constexpr (std::is_same_v<Way, AsBf16>)
      if (s.packed_b)
        return multiply(Strided<device::BFloat16, true, kPiece<Way>>{
            static_cast<const device::BFloat16*>(s.packed_b), k, 1, n, 0});
    with_source<Way>(b, n, k, s.b_col, s.b_row, multiply);
  });
}

/// Of a B that is dense along k: halves for few rows in tf32, one part in bf16, in fp32 three where Hopper
/// multiplies them.
GemmPacking packing(const Gemm& s) {
  if (s.b_row != 1 || s.b_col != s.k) return {};
  const auto parts = [&](int count) { return Parts{count}.bytes(s.n * s.k); };
  switch (precision()) {
    case Precision::tf32:
      if (!is_thin(s)) return {};
      return {"halves", halves_size(s.n, s.k)};
    case Precision::bf16:
      if (s.k % 8 != 0) return {};
      return {"1 part", parts(AsBf16::kParts)};
    case Precision::fp32:
      if (s.k % 8 != 0 || s.m <= kMostThinRows || !runs_on_hopper(s, Precision::fp32)) return {};
      return {"3 parts", parts(AsFp32::kParts)};
  }
  return {};
}

void make_parts(std::int64_t count, std::int64_t elements, std::uint16_t* parts, const float* x) {
  const auto make = [&]<class Way>() {
    copy_operand<Way>("make_parts", MatrixOf<float>{x, 1, elements, elements, 1}, elements,
                      reinterpret_cast<device::BFloat16*>(parts));
  };
  count == 1 ? make.template operator()<AsBf16>() : make.template operator()<AsFp32>();
}

void pack(const Gemm& s, void* packed, const float* b) {
  const Precision mode = precision();
  if (mode == Precision::tf32)
    pack_halves("gemm's weights", s.n, s.k, packed, b);
  else
    make_parts(mode == Precision::bf16 ? AsBf16::kParts : AsFp32::kParts, s.n * s.k,
               static_cast<std::uint16_t*>(packed), b);
}

void gemm(const Gemm& s, float* c, const float* a, const float* b, const float* bias) {
  for (const std::int64_t size : {s.m, s.n, s.k})
    if (size > std::numeric_limits<int>::max())
      throw DeviceFault("gemm: " + std::to_string(size) + " rows or columns at once");
  if (s.m == 0 || s.n == 0) return;
  const StoreSum output{c, bias, s.c_row, s.relu};
  const Precision mode = precision();
  if (is_thin(s) && aligned_for_four(a, b)) {
    const int m = static_cast<int>(s.m), n = static_cast<int>(s.n), k = static_cast<int>(s.k);
    const auto multiply = [&](const auto& columns) {
      run_thin_product("gemm", m, n, k, a, s.a_row, columns, output);
    };
    if (!s.packed_b)
      multiply(ThinColumns<float>{b, s.b_col});
    else if (mode == Precision::tf32)
      multiply(packed_halves(s.packed_b, s.n, s.k));
    else
      multiply(ThinColumns<device::BFloat16>{static_cast<const device::BFloat16*>(s.packed_b), s.k});
    return;
  }
  if (runs_on_hopper(s, mode))
    return as_precision_says(mode, [&]<class Way>() { multiply_on_hopper<Way>(s, a, b, output); });
  as_tiles_multiply(mode, [&]<class Way>() { multiply_in_tiles<Way>(s, a, b, output); });
}

}  // namespace

void fill_gemm_cuda(FloatKernels<float>& table) {
  table.gemm = gemm;
  table.gemm_packing = packing;
  table.gemm_pack = pack;
  table.make_parts = make_parts;
}

}  // namespace grapnel::kernels
