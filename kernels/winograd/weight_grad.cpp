// Weight gradient: at each place the product of mapped inputs and mapped gradients, summed over the tiles, is
// a matrix channels x panel; it stays in memory while blocks of tiles are added in order, and is mapped back
// at the end. Threads share channels and panels, never the tiles of one sum: same bits always.
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/winograd/tiles.h"

namespace grapnel::kernels {
namespace {

constexpr std::int64_t kBlockTiles = 128;
constexpr std::int64_t kMostChannels = 64;  // whose block of mapped inputs stays in the second-level cache

class WeightGrad {
 public:
  WeightGrad(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, float* dw,
             const float* x, const float* dy)
      : kernel_(kernel),
        maps_(maps),
        p_(shape),
        grid_(winograd_shape(shape, ConvPass::forward), maps.outputs),
        dw_(dw),
        x_(x),
        dy_(dy) {}

  void run(Range channels, Range panels) const {
    for (std::int64_t begin = channels.begin; begin < channels.end; begin += kMostChannels)
      one_chunk({begin, std::min(begin + kMostChannels, channels.end)}, panels);
  }

 private:
  /// Outputs in a panel.
  std::int64_t columns_of(std::int64_t panel) const {
    return std::min<std::int64_t>(kernel_.panel, p_.k - panel * kernel_.panel);
  }

  void one_chunk(Range channels, Range panels) const {
    static thread_local Scratch<float> sum_scratch, x_scratch, dy_scratch, zero_scratch;
    const std::int64_t places = maps_.places(), panel = kernel_.panel;
    const std::int64_t panel_sums = places * channels.size() * panel;
    float* sums = sum_scratch.get(static_cast<std::size_t>(panels.size() * panel_sums));
    float* mapped_x = x_scratch.get(static_cast<std::size_t>(places * kBlockTiles * channels.size()));
    float* mapped_dy = dy_scratch.get(static_cast<std::size_t>(places * kBlockTiles * panel));
    const std::int64_t widest = std::max(p_.c, p_.k);
    float* zeros = zero_scratch.get(static_cast<std::size_t>(widest));
    std::fill(zeros, zeros + widest, 0.0f);

    for (std::int64_t begin = 0; begin < grid_.count; begin += kBlockTiles) {
      const Range tiles{begin, std::min(begin + kBlockTiles, grid_.count)};
      map_x(tiles, channels, mapped_x, zeros);
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        map_dy(tiles, p, mapped_dy, zeros);
        add_products(tiles.size(), channels.size(), columns_of(p), mapped_x, mapped_dy, begin == 0,
                     sums + (p - panels.begin) * panel_sums);
      }
    }
    for (std::int64_t p = panels.begin; p < panels.end; ++p)
      write(sums + (p - panels.begin) * panel_sums, channels, p);
  }

  void map_x(Range tiles, Range channels, float* mapped, const float* zeros) const {
    const std::int64_t plane = tiles.size() * channels.size();
    const float* pixels[kMaxReach * kMaxReach];
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, mapped += channels.size()) {
      const TilePlace at = grid_.at(t);
      point_to_pixels(x_ + at.image * p_.h * p_.w * p_.c + channels.begin, p_.h, p_.w, p_.c,
                      at.row - p_.pad_h, at.column - p_.pad_w, maps_.reach, zeros, pixels);
      maps_.input(pixels, channels.size(), mapped, plane);
    }
  }

  /// Zero in the rest of the last channel's vector.
  void map_dy(Range tiles, std::int64_t p, float* mapped, const float* zeros) const {
    const std::int64_t panel = kernel_.panel, columns = columns_of(p);
    const std::int64_t plane = tiles.size() * panel;
    if (columns < whole_vectors(kernel_, columns)) std::fill(mapped, mapped + maps_.places() * plane, 0.0f);
    const float* pixels[kMaxReach * kMaxReach];
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, mapped += panel) {
      const TilePlace at = grid_.at(t);
      point_to_pixels(dy_ + at.image * p_.oh * p_.ow * p_.k + p * panel, p_.oh, p_.ow, p_.k, at.row,
                      at.column, maps_.outputs, zeros, pixels);
      maps_.output_grad(pixels, columns, mapped, plane);
    }
  }

  /// sums[place] (+)= mapped x, transposed, times mapped dy.
  void add_products(std::int64_t tiles, std::int64_t channels, std::int64_t columns, const float* x,
                    const float* dy, bool first, float* sums) const {
    const std::int64_t panel = kernel_.panel, groups = ceil_div(channels, kernel_.max_rows), no_offset = 0;
    Tile tile{};
    tile.columns = static_cast<int>(whole_vectors(kernel_, columns));
    tile.segments = 1;
    tile.depth = tiles;
    tile.a_offset = &no_offset;
    tile.a_row = 1;
    tile.a_run = kRun;
    tile.a_col = channels;
    tile.c_row = tile.init_row = panel;
    tile.c_run = tile.init_run = kRun * panel;
    tile.prefetch = x;
    for (std::int64_t place = 0; place < maps_.places(); ++place) {
      tile.b = dy + place * tiles * panel;
      for (std::int64_t g = 0; g < groups; ++g) {
        const Range rows = part_of(channels, g, groups);
        tile.rows = static_cast<int>(rows.size());
        tile.a = x + place * tiles * channels + rows.begin;
        tile.c = sums + (place * channels + rows.begin) * panel;
        tile.init = first ? nullptr : tile.c;
        kernel_.tile(tile);
      }
    }
  }

  /// Sums of the panel's channels, mapped back, to dw (K, C, 3, 3).
  void write(const float* sums, Range channels, std::int64_t p) const {
    static thread_local Scratch<float> scratch;
    const std::int64_t panel = kernel_.panel, columns = columns_of(p);
    float* taps = scratch.get(static_cast<std::size_t>(9 * panel));
    for (std::int64_t c = channels.begin; c < channels.end; ++c, sums += panel) {
      maps_.filter_grad(sums, channels.size() * panel, columns, taps, panel);
      float* to = dw_ + (p * panel * p_.c + c) * 9;
      for (std::int64_t j = 0; j < columns; ++j)
        for (std::int64_t t = 0; t < 9; ++t) to[j * p_.c * 9 + t] = taps[t * panel + j];
    }
  }

  const MicroKernel& kernel_;
  const WinogradMaps& maps_;
  const Conv2d p_;
  const TileGrid grid_;
  float* dw_;
  const float* x_;
  const float* dy_;
};

}  // namespace

void winograd_weight_grad(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, float* dw,
                          const float* x, const float* dy) {
  if (shape.n * shape.oh * shape.ow == 0) {
    std::fill(dw, dw + shape.k * shape.c * 9, 0.0f);
    return;
  }
  // Channels are shared in whole vectors: maps are slow on parts of one. A tile x a vector of channels x a
  // panel takes about a step of the micro-kernel a place; mapping takes about a step and a half a vector.
  const std::int64_t units = ceil_div(shape.c, kernel.lanes), panels = ceil_div(shape.k, kernel.panel);
  const Work work{units, panels, 1.5, 1.5 * kernel.panel / kernel.lanes};
  parallel_grid(work, [&](Range parts, Range columns) {
    const Range channels{std::min(parts.begin * kernel.lanes, shape.c),
                         std::min(parts.end * kernel.lanes, shape.c)};
    WeightGrad(kernel, maps, shape, dw, x, dy).run(channels, columns);
  });
}

}  // namespace grapnel::kernels
