// A convolution and the max pooling after it, a band of rows at a time: what the convolution makes of a band
// stays in cache until its windows' maxima are found, and never goes to memory. A stem of 7x7 makes four
// times more than its pooling leaves.
#pragma once

#include <algorithm>
#include <cstring>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/pool2d/pool2d.h"

namespace grapnel::kernels {

/// rows(range, out) makes rows of the convolution, counted through all images, into `out`, by this thread
/// alone; ranges begin and end at multiples of `tile` in an image, or at its end. False, and nothing done,
/// where one after the other is the way.
template <class Rows>
bool conv2d_max_pool(const MaxPoolRows& maximum, const Conv2d& shape, const Pool2d& pool, float* y,
                     std::int64_t tile, const Epilogue<float>& epilogue, const Rows& rows_into) {
  // What a band's rows of the convolution may take, in floats: half of a second-level cache of 1 MiB.
  constexpr std::int64_t kBandFloats = 128 * 1024;
  const std::int64_t lines = pool.n * pool.oh, row = shape.ow * shape.k;
  const std::int64_t reach = pool.dil_h * (pool.kernel_h - 1) + 1;
  const std::int64_t most = (kBandFloats / std::max<std::int64_t>(row, 1) - reach) / pool.stride_h + 1;
  // Neighbouring threads make the rows between them twice: only where each has many others.
  if (epilogue.residual || epilogue.mask || most < 1 || lines < 4 * num_threads()) return false;

  const MaxPool windows(maximum, pool);
  parallel_for(lines, 1, [&](std::int64_t begin, std::int64_t end) {
    static thread_local Scratch<float> scratch;
    const std::int64_t room = (most - 1) * pool.stride_h + reach + 2 * (tile - 1);
    float* made = scratch.get(static_cast<std::size_t>(room * row));
    Range kept{0, 0};  // the rows in `made`, counted through all images
    for (std::int64_t line = begin, next; line < end; line = next) {
      const std::int64_t image = line / pool.oh, first_line = image * pool.oh, first_row = image * shape.oh;
      next = std::min({end, first_line + pool.oh, line + most});
      const std::int64_t top = windows.rows_of(line - first_line).begin;
      const std::int64_t bottom = windows.rows_of(next - 1 - first_line).end;
      const Range rows{first_row + top / tile * tile,
                       first_row + std::min(shape.oh, ceil_div(bottom, tile) * tile)};
      std::int64_t have = 0;
      if (kept.begin <= rows.begin && rows.begin < kept.end) {
        have = kept.end - rows.begin;
        std::memmove(made, made + (rows.begin - kept.begin) * row,
                     static_cast<std::size_t>(have * row) * sizeof(float));
      }
      rows_into(Range{rows.begin + have, rows.end}, made + have * row);
      kept = rows;
      for (std::int64_t l = line; l < next; ++l) {
        const std::int64_t from = first_row + windows.rows_of(l - first_line).begin - rows.begin;
        windows.line(l - first_line, y + l * pool.ow * pool.c, nullptr, made + from * row);
      }
    }
  });
  return true;
}

}  // namespace grapnel::kernels
