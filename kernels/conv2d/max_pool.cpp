// A convolution and the max pooling after it, a band of rows at a time: what the convolution makes of a band
// stays in cache until its windows' maxima are found, and never goes to memory. A stem of 7x7 makes four
// times more than its pooling leaves.
#include <algorithm>
#include <cstring>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/conv2d/direct.h"
#include "grapnel/kernels/pool2d/pool2d.h"

namespace grapnel::kernels {
namespace {

// What a band's rows of the convolution may take, in floats: a quarter of a second-level cache of 2 MiB.
constexpr std::int64_t kBandFloats = 128 * 1024;

}  // namespace

bool direct_max_pool(const MicroKernel& kernel, const MaxPoolRows& maximum, const Conv2d& shape,
                     const Pool2d& pool, float* y, const float* x, const float* packed,
                     const Epilogue<float>& epilogue) {
  const std::int64_t lines = pool.n * pool.oh, row = shape.ow * shape.k;
  const std::int64_t reach = pool.dil_h * (pool.kernel_h - 1) + 1;
  const std::int64_t most = (kBandFloats / std::max<std::int64_t>(row, 1) - reach) / pool.stride_h + 1;
  // Neighbouring threads make the rows between them twice: only where each has many others.
  if (epilogue.residual || epilogue.mask || most < 1 || lines < 4 * num_threads()) return false;

  const MaxPool windows(maximum, pool);
  parallel_for(lines, 1, [&](std::int64_t begin, std::int64_t end) {
    static thread_local Scratch<float> scratch;
    float* made = scratch.get(static_cast<std::size_t>(((most - 1) * pool.stride_h + reach) * row));
    Range kept{0, 0};  // the rows in `made`, counted through all images
    for (std::int64_t line = begin, next; line < end; line = next) {
      const std::int64_t image = line / pool.oh, first_line = image * pool.oh, first_row = image * shape.oh;
      next = std::min({end, first_line + pool.oh, line + most});
      const Range rows{first_row + windows.rows_of(line - first_line).begin,
                       first_row + windows.rows_of(next - 1 - first_line).end};
      std::int64_t have = 0;
      if (kept.begin <= rows.begin && rows.begin < kept.end) {
        have = kept.end - rows.begin;
        std::memmove(made, made + (rows.begin - kept.begin) * row,
                     static_cast<std::size_t>(have * row) * sizeof(float));
      }
      direct_rows(kernel, shape, {rows.begin + have, rows.end}, made + have * row, x, packed, epilogue);
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
