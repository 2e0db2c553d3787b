// Blocked matrix product: B is copied in blocks into panels as wide as the micro-kernel, A in blocks that
// stay in the second-level cache (K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication", 2008).
#include <algorithm>
#include <cstring>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/gemm/gemm.h"
#include "grapnel/kernels/gemm/transpose.h"

namespace grapnel::kernels {
namespace {

// One panel block of B (kDepth x 32 floats) is 32 KB: first-level cache. kColumns of them, and kRows of A:
// second level.
constexpr std::int64_t kDepth = 256;
constexpr std::int64_t kColumns = 512;
constexpr std::int64_t kRows = 112;
// Off a power of two, or the rows of a tile would all want the same cache set.
constexpr std::int64_t kRowStride = kDepth + 16;

struct PackedA {
  const float* data;
  std::int64_t row, col;
};

/// Copies a block of A so that the direction that was contiguous stays so: no transposition.
PackedA pack_a(const Gemm& shape, const float* a, Range rows, Range depth, float* out) {
  a += rows.begin * shape.a_row + depth.begin * shape.a_col;
  if (shape.a_row == 1 && shape.a_col != 1) {
    for (std::int64_t k = 0; k < depth.size(); ++k) {
      std::memcpy(out + k * kRows, a + k * shape.a_col,
                  static_cast<std::size_t>(rows.size()) * sizeof(float));
    }
    return {out, 1, kRows};
  }
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    for (std::int64_t k = 0; k < depth.size(); ++k) {
      out[i * kRowStride + k] = a[i * shape.a_row + k * shape.a_col];
    }
  }
  return {out, kRowStride, 1};
}

/// Rows `depth`, columns from `column` on, as one panel, padded with zeros.
void pack_b(const MicroKernel& kernel, const Gemm& shape, const float* b, Range depth, std::int64_t column,
            float* out) {
  const int panel = kernel.panel;
  const std::int64_t columns = std::min<std::int64_t>(panel, shape.n - column);
  b += depth.begin * shape.b_row + column * shape.b_col;
  if (columns < panel) std::memset(out, 0, static_cast<std::size_t>(depth.size() * panel) * sizeof(float));
  if (shape.b_col == 1) {
    for (std::int64_t k = 0; k < depth.size(); ++k) {
      std::memcpy(out + k * panel, b + k * shape.b_row, static_cast<std::size_t>(columns) * sizeof(float));
    }
    return;
  }
  // Blocks a vector wide and high: a line of B, contiguous along k when B is transposed, is used up while in
  // cache.
  for (std::int64_t k0 = 0; k0 < depth.size(); k0 += kernel.lanes) {
    const std::int64_t height = std::min<std::int64_t>(kernel.lanes, depth.size() - k0);
    for (std::int64_t j0 = 0; j0 < columns; j0 += kernel.lanes) {
      const std::int64_t width = std::min<std::int64_t>(kernel.lanes, columns - j0);
      const float* from = b + k0 * shape.b_row + j0 * shape.b_col;
      float* to = out + k0 * panel + j0;
      if (shape.b_row == 1) {
        const float* in[kMaxLanes];
        float* rows[kMaxLanes];
        for (std::int64_t j = 0; j < width; ++j) in[j] = from + j * shape.b_col;
        for (std::int64_t k = 0; k < height; ++k) rows[k] = to + k * panel;
        transpose(kernel, width, height, in, rows);
        continue;
      }
      for (std::int64_t j = 0; j < width; ++j) {
        for (std::int64_t k = 0; k < height; ++k) to[k * panel + j] = from[k * shape.b_row + j * shape.b_col];
      }
    }
  }
}

/// C over `rows` x `columns`, the part of one thread.
void multiply_part(const MicroKernel& kernel, const Gemm& shape, float* c, const float* a, const float* b,
                   const float* bias, Range rows, Range columns) {
  static thread_local Scratch<float> a_scratch, b_scratch;
  float* a_block = a_scratch.get(std::max(kRows * kRowStride, kRows * kDepth));
  float* b_block = b_scratch.get(kDepth * kColumns);
  const std::int64_t origin = 0;

  for (std::int64_t j0 = columns.begin; j0 < columns.end; j0 += kColumns) {
    const Range block{j0, std::min(j0 + kColumns, columns.end)};
    std::int64_t k0 = 0;
    do {  // once even when K is 0: C is then the bias
      const Range depth{k0, std::min(k0 + kDepth, shape.k)};
      for (std::int64_t j = block.begin; j < block.end; j += kernel.panel) {
        pack_b(kernel, shape, b, depth, j, b_block + (j - block.begin) * depth.size());
      }
      for (std::int64_t i0 = rows.begin; i0 < rows.end; i0 += kRows) {
        const Range chunk{i0, std::min(i0 + kRows, rows.end)};
        const PackedA packed = pack_a(shape, a, chunk, depth, a_block);
        const std::int64_t tiles = ceil_div(chunk.size(), kernel.max_rows);
        for (std::int64_t j = block.begin; j < block.end; j += kernel.panel) {
          for (std::int64_t t = 0; t < tiles; ++t) {
            const Range tile_rows = part_of(chunk.size(), t, tiles);
            float* c_tile = c + (chunk.begin + tile_rows.begin) * shape.c_row + j;
            Tile tile{};
            tile.rows = static_cast<int>(tile_rows.size());
            tile.columns = static_cast<int>(std::min<std::int64_t>(kernel.panel, block.end - j));
            tile.segments = 1;
            tile.depth = depth.size();
            tile.a_offset = &origin;
            tile.a = packed.data + tile_rows.begin * packed.row;
            tile.a_row = packed.row;
            tile.a_run = kRun * packed.row;
            tile.a_col = packed.col;
            tile.b = b_block + (j - block.begin) * depth.size();
            tile.c = c_tile;
            tile.c_row = shape.c_row;
            tile.c_run = kRun * shape.c_row;
            if (k0 > 0) {
              tile.init = c_tile;
              tile.init_row = tile.c_row;
              tile.init_run = tile.c_run;
            } else if (bias) {
              tile.init = bias + j;
            }
            kernel.tile(tile);
          }
        }
      }
      k0 += kDepth;
    } while (k0 < shape.k);
  }
}

}  // namespace

void packed_gemm(const MicroKernel& kernel, const Gemm& shape, float* c, const float* a, const float* b,
                 const float* bias) {
  // Cutting rows makes every part pack all of B, cutting columns makes it pack all of A. In units of one
  // tile:
  const double copy = 2.0 / kernel.max_rows;
  const Work work{ceil_div(shape.m, kernel.max_rows), ceil_div(shape.n, kernel.panel), copy / 2,
                  shape.b_col == 1 ? copy : 4 * copy};
  parallel_grid(work, [&](Range rows, Range panels) {
    const Range part{rows.begin * kernel.max_rows, std::min(rows.end * kernel.max_rows, shape.m)};
    const Range columns{panels.begin * kernel.panel, std::min(panels.end * kernel.panel, shape.n)};
    multiply_part(kernel, shape, c, a, b, bias, part, columns);
  });
}

}  // namespace grapnel::kernels
