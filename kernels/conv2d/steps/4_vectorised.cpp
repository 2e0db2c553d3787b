// Step 4: tiles of pixels x channels in the widest registers.
//
// New: the micro-kernel of ../../gemm. A tile is up to 14 neighbouring pixels of a row and a panel of output
// channels; a weight loaded serves all its pixels. The kernel sums over pieces that lie apart, here one per
// row of the filter. Pixels at the border must not differ from the others, so the picture is copied once into
// a frame of zeros: a small price, where a matrix of patches was nine times as much.
//
// What stands in the way: one core; and a large picture is out of the cache again before the next panel.
#include <algorithm>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/conv2d/direct.h"
#include "grapnel/kernels/conv2d/steps/steps.h"
#include "grapnel/kernels/gemm/gemm.h"

namespace grapnel::kernels::conv2d_steps {
namespace {

std::size_t panels_size(const Conv2d& p) {
  return direct_packed_size(chosen_microkernel(), p, ConvPass::forward);
}

void pack_panels(const Conv2d& p, float* packed, const float* w) {
  const std::int64_t strides[] = {p.c * p.r * p.s, p.r * p.s, p.s, 1};
  direct_pack(chosen_microkernel(), p, ConvPass::forward, packed, w, strides);
}

/// Copies one picture into a frame of zeros, whose rows are `row` floats long.
void frame_picture(const Conv2d& p, const float* picture, float* framed, std::int64_t row) {
  std::fill(framed, framed + (p.h + 2 * p.pad_h) * row, 0.0f);
  for (std::int64_t h = 0; h < p.h; ++h) {
    const float* from = picture + h * p.w * p.c;
    std::copy(from, from + p.w * p.c, framed + (h + p.pad_h) * row + p.pad_w * p.c);
  }
}

}  // namespace

const Weights in_wide_panels{panels_size, pack_panels};

void vectorised(const Conv2d& p, float* y, const float* x, const float* panels) {
  const MicroKernel& kernel = chosen_microkernel();
  const std::int64_t row = (p.w + 2 * p.pad_w) * p.c;
  static thread_local Scratch<float> picture_scratch;
  static thread_local Scratch<std::int64_t> piece_scratch;
  float* framed = picture_scratch.get(static_cast<std::size_t>((p.h + 2 * p.pad_h) * row));
  std::int64_t* pieces = piece_scratch.get(static_cast<std::size_t>(p.r));
  for (std::int64_t r = 0; r < p.r; ++r) pieces[r] = r * row;
  Tile tile{};
  tile.segments = p.r;
  tile.depth = p.s * p.c;
  tile.a_offset = pieces;
  tile.a_row = p.c;
  tile.a_run = kRun * p.c;
  tile.a_col = 1;
  tile.c_row = p.k;
  tile.c_run = kRun * p.k;
  for (std::int64_t n = 0; n < p.n; ++n) {
    frame_picture(p, x + n * p.h * p.w * p.c, framed, row);
    for (std::int64_t k = 0; k < p.k; k += kernel.panel) {
      tile.columns = static_cast<int>(std::min<std::int64_t>(kernel.panel, p.k - k));
      tile.b = panels + k * p.r * p.s * p.c;
      for (std::int64_t oh = 0; oh < p.oh; ++oh) {
        for (std::int64_t ow = 0; ow < p.ow; ow += kernel.max_rows) {
          tile.rows = static_cast<int>(std::min<std::int64_t>(kernel.max_rows, p.ow - ow));
          tile.a = framed + oh * row + ow * p.c;
          tile.c = y + ((n * p.oh + oh) * p.ow + ow) * p.k + k;
          kernel.tile(tile);
        }
      }
    }
  }
}

}  // namespace grapnel::kernels::conv2d_steps
