// The inner loop behind matrix products and convolutions: one small block of C, kept in registers while the
// whole sum runs. Everything else in gemm/ and conv2d/ only decides which blocks, in which order.
//
// Plain structs only: the files compiled with wide instruction sets include this. The loop itself is tile.h.
#pragma once

#include <cstdint>

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// A tile's rows come in up to two runs of this many; the second run may start anywhere. Seven, because
/// x86 reaches 7 equally spaced rows from one pointer and three distances, and because it divides 224.
inline constexpr int kRun = 7;

/// C(i, j) = sum over segments g and k < depth of A_g(i, k) * B(g * depth + k, j) + init(i, j).
///
/// A_g(i, k) = a[a_offset[g] + row i + k * a_col]; row i < kRun lies at i * a_row, a later one at
/// a_run + (i - kRun) * a_row. Same for c and init (init null: zero; init_row = init_run = 0: one bias row
/// for all). B is a packed panel: row k at k * panel, 64-byte aligned, zero beyond `columns`.
struct Tile {
  int rows;     // 1 .. MicroKernel::max_rows
  int columns;  // 1 .. MicroKernel::panel
  std::int64_t segments;
  std::int64_t depth;
  const std::int64_t* a_offset;
  const float* a;
  std::int64_t a_row, a_run, a_col;
  const float* b;
  float* c;
  std::int64_t c_row, c_run;
  const float* init;
  std::int64_t init_row, init_run;
  // What follows the sum; null for nothing. Its operands begin at the tile's first element, and lie as C
  // does.
  const Epilogue<float>* epilogue;
  // Memory a later tile will read, brought nearer while this one computes: prefetch_step floats a step.
  const float* prefetch;
  std::int64_t prefetch_step;
};

/// What one instruction set offers. Sums run in the same order in every tile size: cutting the work
/// differently never changes a bit.
struct MicroKernel {
  int max_rows;
  int panel;  // columns of a packed panel of B
  int lanes;  // floats in a vector; divides panel
  void (*tile)(const Tile& tile);
  /// out[i] = sum over k of a[i * a_row + k] * b[k] for i < rows <= kThinRows; both contiguous along k.
  void (*dot)(std::int64_t k, int rows, const float* a, std::int64_t a_row, const float* b, float* out);
  /// c[j] += sum over k < depth of a[k * a_col] * b[k * b_row + j] for j < n.
  void (*axpy)(std::int64_t n, std::int64_t depth, float* c, const float* a, std::int64_t a_col,
               const float* b, std::int64_t b_row);
  /// out[j][i] = in[i][j] for i, j < lanes.
  void (*transpose)(const float* const* in, float* const* out);
};

inline constexpr int kThinRows = 4;

extern const MicroKernel portable_microkernel;
extern const MicroKernel avx2_microkernel;
extern const MicroKernel avx512_microkernel;

}  // namespace grapnel::kernels
