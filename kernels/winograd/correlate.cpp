// Forward pass and input gradient. A block of tiles is mapped at once; place by place, its products with all
// panels of filters are made, then mapped back. What a step multiplies, the block's inputs at one place and
// one panel's filters, stays in the second-level cache, the next panel's on its way.
#include "grapnel/kernels/common/finish.h"
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/winograd/tiles.h"

namespace grapnel::kernels {
namespace {

// Every block reads all filters once, and its inputs and products once each: of 512 channels, 8 MB and 38 MB.
constexpr std::int64_t kBlockTiles = 56;

class Correlator {
 public:
  Correlator(const MicroKernel& kernel, const WinogradMaps& maps, const WinogradShape& shape, float* out,
             const float* in, const float* packed, const Epilogue<float>& epilogue)
      : kernel_(kernel),
        maps_(maps),
        s_(shape),
        grid_(shape, maps.outputs),
        out_(out),
        in_(in),
        packed_(packed),
        epilogue_(epilogue) {}

  /// Tiles of all images, panels of outputs.
  void run(Range tiles, Range panels) const {
    const std::int64_t blocks = ceil_div(tiles.size(), kBlockTiles);
    for (std::int64_t b = 0; b < blocks; ++b) {
      const Range part = part_of(tiles.size(), b, blocks);
      one_block({tiles.begin + part.begin, tiles.begin + part.end}, panels);
    }
  }

 private:
  void one_block(Range tiles, Range panels) const {
    static thread_local Scratch<float> input_scratch, product_scratch;
    const int places = maps_.places();
    const std::int64_t count = tiles.size();
    float* mapped = input_scratch.get(static_cast<std::size_t>(places * count * s_.inputs + s_.inputs));
    const std::int64_t row = panels.size() * kernel_.panel;
    float* products = product_scratch.get(static_cast<std::size_t>(places * count * row));
    map_inputs(tiles, mapped, mapped + places * count * s_.inputs);

    const std::int64_t groups = ceil_div(count, kernel_.max_rows), no_offset = 0;
    Tile tile{};
    tile.segments = 1;
    tile.depth = s_.inputs;
    tile.a_offset = &no_offset;
    tile.a_row = s_.inputs;
    tile.a_run = kRun * s_.inputs;
    tile.a_col = 1;
    tile.c_row = row;
    tile.c_run = kRun * row;
    tile.prefetch_step = ceil_div(kernel_.panel, groups);
    const std::int64_t piece = s_.inputs * kernel_.panel, all_panels = ceil_div(s_.outputs, kernel_.panel);
    for (int place = 0; place < places; ++place)
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        const std::int64_t columns = std::min<std::int64_t>(kernel_.panel, s_.outputs - p * kernel_.panel);
        tile.columns = static_cast<int>(whole_vectors(kernel_, columns));
        tile.b = packed_ + (maps_.filter_at(place) * all_panels + p) * piece;
        tile.prefetch = tile.b + piece;
        for (std::int64_t g = 0; g < groups; ++g) {
          const Range rows = part_of(count, g, groups);
          tile.rows = static_cast<int>(rows.size());
          tile.a = mapped + (place * count + rows.begin) * s_.inputs;
          tile.c = products + (place * count + rows.begin) * row + (p - panels.begin) * kernel_.panel;
          kernel_.tile(tile);
          tile.prefetch += tile.prefetch_step * s_.inputs;
        }
      }
    map_outputs(tiles, panels, products);
  }

  void map_inputs(Range tiles, float* mapped, float* zeros) const {
    std::fill(zeros, zeros + s_.inputs, 0.0f);
    const std::int64_t plane = tiles.size() * s_.inputs;
    const float* pixels[kMaxReach * kMaxReach];
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, mapped += s_.inputs) {
      const TilePlace at = grid_.at(t);
      point_to_pixels(in_ + at.image * s_.in_h * s_.in_w * s_.inputs, s_.in_h, s_.in_w, s_.inputs,
                      at.row * s_.stride - s_.pad_h, at.column * s_.stride - s_.pad_w, maps_.reach, zeros,
                      pixels);
      maps_.input(pixels, s_.inputs, mapped, plane);
    }
  }

  void map_outputs(Range tiles, Range panels, const float* products) const {
    const std::int64_t channel = panels.begin * kernel_.panel, row = panels.size() * kernel_.panel;
    const Epilogue<float> epilogue = from(epilogue_, channel, channel);
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, products += row)
      maps_.output(products, tiles.size() * row, std::min(row, s_.outputs - channel), out_ + channel,
                   output_tile(s_, grid_, t), epilogue);
  }

  const MicroKernel& kernel_;
  const WinogradMaps& maps_;
  const WinogradShape s_;
  const TileGrid grid_;
  float* out_;
  const float* in_;
  const float* packed_;
  const Epilogue<float>& epilogue_;
};

}  // namespace

void winograd_correlate(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape,
                        ConvPass pass, float* out, const float* in, const float* packed,
                        const Epilogue<float>& epilogue) {
  const WinogradShape s = winograd_shape(shape, pass);
  const TileGrid grid(s, maps.outputs);
  if (grid.count == 0) return;
  // In steps of the micro-kernel for a tile x panel: mapping an input takes about two a float, fetching a
  // filter's panel about half a step a float.
  const double steps = static_cast<double>(maps.places() * s.inputs) / kernel.max_rows;
  const double input = 0.15 * static_cast<double>(maps.places() * s.inputs);
  const double filters =
      0.5 * static_cast<double>(maps.filters * maps.filters * s.inputs * kernel.panel) / 16;
  const Work work{grid.count, ceil_div(s.outputs, kernel.panel), input / steps, filters / steps};
  parallel_grid(work, [&](Range tiles, Range panels) {
    Correlator(kernel, maps, s, out, in, packed, epilogue).run(tiles, panels);
  });
}

}  // namespace grapnel::kernels
