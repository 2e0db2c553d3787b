#include "grapnel/kernels/conv2d/scatter.h"

#include <algorithm>

#include "grapnel/kernels/common/finish.h"
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/common/split.h"

namespace grapnel::kernels {
namespace {

constexpr std::int64_t kRowFloats = 96 * 1024;  // of dx at a time: second-level cache

std::int64_t columns_of(const Conv2d& p) {
  return p.r * p.s * p.c;
}
std::int64_t panels_of(const MicroKernel& kernel, const Conv2d& p) {
  return ceil_div(columns_of(p), kernel.panel);
}

/// products (OW, width) = one row of dy (OW, K) times the weights (K, (r, s, c)).
void multiply_row(const MicroKernel& kernel, const Conv2d& p, const float* dy, const float* packed,
                  float* products) {
  const std::int64_t origin = 0, width = panels_of(kernel, p) * kernel.panel;
  Tile tile{};
  tile.columns = kernel.panel;
  tile.segments = 1;
  tile.depth = p.k;
  tile.a_offset = &origin;
  tile.a_row = p.k;
  tile.a_run = kRun * p.k;
  tile.a_col = 1;
  tile.c_row = width;
  tile.c_run = kRun * width;
  const std::int64_t tiles = ceil_div(p.ow, kernel.max_rows);
  for (std::int64_t panel = 0; panel < panels_of(kernel, p); ++panel) {
    tile.b = packed + panel * p.k * kernel.panel;
    for (std::int64_t t = 0; t < tiles; ++t) {
      const Range pixels = part_of(p.ow, t, tiles);
      tile.rows = static_cast<int>(pixels.size());
      tile.a = dy + pixels.begin * p.k;
      tile.c = products + pixels.begin * width + panel * kernel.panel;
      kernel.tile(tile);
    }
  }
}

/// Rows [rows) of dx of image n. Every element is summed over oh, then ow, however the rows are cut.
void grad_rows(const MicroKernel& kernel, const Conv2d& p, float* dx, const float* dy, const float* packed,
               const Epilogue<float>& epilogue, std::int64_t n, Range rows) {
  const bool fused = any_step(epilogue);
  static thread_local Scratch<float> product_scratch, row_scratch;
  const std::int64_t width = panels_of(kernel, p) * kernel.panel;
  float* products = product_scratch.get(static_cast<std::size_t>(p.ow * width));
  // Rows with the padding on both sides, so that no product has to be left out.
  const std::int64_t padded =
      std::max(p.w + p.pad_w, (p.ow - 1) * p.stride_w + (p.s - 1) * p.dil_w + 1) * p.c;
  float* sums = row_scratch.get(static_cast<std::size_t>(rows.size() * padded));
  std::fill(sums, sums + rows.size() * padded, 0.0f);

  // Taps of a kernel row lie in one piece of dx, unless dilation sets them apart.
  const std::int64_t runs = p.dil_w == 1 ? 1 : p.s, run = p.dil_w == 1 ? p.s * p.c : p.c;
  const std::int64_t above = rows.begin + p.pad_h - (p.r - 1) * p.dil_h;
  const std::int64_t oh_begin = above > 0 ? ceil_div(above, p.stride_h) : 0;
  const std::int64_t oh_end = std::min(p.oh, (rows.end - 1 + p.pad_h) / p.stride_h + 1);
  for (std::int64_t oh = oh_begin; oh < oh_end; ++oh) {
    multiply_row(kernel, p, dy + (n * p.oh + oh) * p.ow * p.k, packed, products);
    for (std::int64_t r = 0; r < p.r; ++r) {
      const std::int64_t h = oh * p.stride_h - p.pad_h + r * p.dil_h;
      if (h < rows.begin || h >= rows.end) continue;
      for (std::int64_t ow = 0; ow < p.ow; ++ow) {
        for (std::int64_t s = 0; s < runs; ++s) {
          float* to = sums + (h - rows.begin) * padded + (ow * p.stride_w + s * p.dil_w) * p.c;
          const float* from = products + ow * width + (r * p.s + s) * p.c;
          for (std::int64_t i = 0; i < run; ++i) to[i] += from[i];
        }
      }
    }
  }
  for (std::int64_t h = rows.begin; h < rows.end; ++h) {
    const float* from = sums + (h - rows.begin) * padded + p.pad_w * p.c;
    const std::int64_t to = (n * p.h + h) * p.w * p.c;
    for (std::int64_t i = 0; i < p.w * p.c; ++i)
      dx[to + i] = fused ? finished_value(from[i], epilogue, to + i, i % p.c) : from[i];
  }
}

}  // namespace

bool scatter_applies(const MicroKernel& kernel, const Conv2d& shape) {
  return shape.groups == 1 && 2 * shape.c <= kernel.lanes;
}

std::size_t scatter_packed_size(const MicroKernel& kernel, const Conv2d& shape) {
  return static_cast<std::size_t>(panels_of(kernel, shape) * shape.k * kernel.panel);
}

void scatter_pack(const MicroKernel& kernel, const Conv2d& p, float* packed, const float* w,
                  const std::int64_t* w_strides) {
  for (std::int64_t panel = 0; panel < panels_of(kernel, p); ++panel) {
    for (std::int64_t k = 0; k < p.k; ++k) {
      for (std::int64_t j = 0; j < kernel.panel; ++j) {
        const std::int64_t column = panel * kernel.panel + j;
        const std::int64_t c = column % p.c, s = column / p.c % p.s, r = column / p.c / p.s;
        *packed++ =
            r < p.r ? w[k * w_strides[0] + c * w_strides[1] + r * w_strides[2] + s * w_strides[3]] : 0.0f;
      }
    }
  }
}

void scatter_input_grad(const MicroKernel& kernel, const Conv2d& p, float* dx, const float* dy,
                        const float* packed, const Epilogue<float>& epilogue) {
  // Parts share the rows of dy at their edges: keep them tall.
  const std::int64_t most = std::max<std::int64_t>(p.r, kRowFloats / ((p.w + 2 * p.pad_w) * p.c));
  parallel_for(p.n * p.h, 4 * p.r, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end;) {
      const std::int64_t n = at / p.h, h = at % p.h;
      const std::int64_t count = std::min({most, end - at, p.h - h});
      grad_rows(kernel, p, dx, dy, packed, epilogue, n, {h, h + count});
      at += count;
    }
  });
}

}  // namespace grapnel::kernels
