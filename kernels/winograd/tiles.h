// Which tiles cover the outputs, and which pixels belong to one.
#pragma once

#include <algorithm>

#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/winograd/winograd.h"

namespace grapnel::kernels {

/// A convolution as both passes see it: out (images, out_h, out_w, outputs) from in (images, in_h, in_w,
/// inputs), dense channels last.
struct WinogradShape {
  std::int64_t images, in_h, in_w, inputs, out_h, out_w, outputs, pad_h, pad_w, stride;
};

inline WinogradShape winograd_shape(const Conv2d& p, ConvPass pass) {
  if (pass == ConvPass::forward) return {p.n, p.h, p.w, p.c, p.oh, p.ow, p.k, p.pad_h, p.pad_w, p.stride_h};
  return {p.n, p.oh, p.ow, p.k, p.h, p.w, p.c, 2 - p.pad_h, 2 - p.pad_w, 1};
}

/// A tile: its image and its first output row and column.
struct TilePlace {
  std::int64_t image, row, column;
};

/// The tiles of all images, numbered row by row.
struct TileGrid {
  std::int64_t outputs, down, across, count;

  TileGrid(const WinogradShape& shape, int m)
      : outputs(m),
        down(ceil_div(shape.out_h, m)),
        across(ceil_div(shape.out_w, m)),
        count(shape.images * down * across) {}

  TilePlace at(std::int64_t tile) const {
    return {tile / (down * across), tile / across % down * outputs, tile % across * outputs};
  }
};

/// The part of the output that a tile makes.
inline OutputTile output_tile(const WinogradShape& s, const TileGrid& grid, std::int64_t tile) {
  const TilePlace at = grid.at(tile);
  return {((at.image * s.out_h + at.row) * s.out_w + at.column) * s.outputs, s.out_w * s.outputs, s.outputs,
          static_cast<int>(std::min(grid.outputs, s.out_h - at.row)),
          static_cast<int>(std::min(grid.outputs, s.out_w - at.column))};
}

/// `columns` of a panel rounded up to whole vectors, which is all that the micro-kernel need compute.
inline std::int64_t whole_vectors(const MicroKernel& kernel, std::int64_t columns) {
  return ceil_div(columns, kernel.lanes) * kernel.lanes;
}

/// Pointers to the channels of size x size pixels of a picture (height, width, channels) from (row, column)
/// on, which may lie outside: there they point to `zeros`.
inline void point_to_pixels(const float* picture, std::int64_t height, std::int64_t width,
                            std::int64_t channels, std::int64_t row, std::int64_t column, int size,
                            const float* zeros, const float** to) {
  for (std::int64_t i = row; i < row + size; ++i)
    for (std::int64_t j = column; j < column + size; ++j) {
      const bool inside = i >= 0 && i < height && j >= 0 && j < width;
      *to++ = inside ? picture + (i * width + j) * channels : zeros;
    }
}

}  // namespace grapnel::kernels
