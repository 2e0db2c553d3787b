// Forward convolution and input gradient. A tile of outputs is up to max_rows neighbouring pixels x one panel
// of channels. In channels-last memory the taps of one kernel row lie in one piece, s and c together, so the
// tile's sum is one segment per kernel row; with dilation or groups, one per tap.
#include <algorithm>

#include "grapnel/kernels/common/finish.h"
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/conv2d/band.h"
#include "grapnel/kernels/conv2d/correlation.h"
#include "grapnel/kernels/conv2d/direct.h"

namespace grapnel::kernels {
namespace {

// What the second-level cache holds at a time, in floats: the input and output of a band, and a slice of a
// panel of weights with the next one on its way.
constexpr std::int64_t kBandFloats = 160 * 1024;
constexpr std::int64_t kSliceFloats = 75 * 1024;

/// The pixels of one tile: up to two runs of kRun, where they read and where they write.
struct Spot {
  int rows;
  std::int64_t in, in_run;    // from the band's input
  std::int64_t out, out_run;  // from the output
};

class Correlator {
 public:
  Correlator(const MicroKernel& kernel, const Correlation& c, float* out, const float* in,
             const float* packed, const Epilogue<float>& epilogue, std::int64_t first_row = 0)
      : kernel_(kernel),
        c_(c),
        out_(out),
        first_row_(first_row),
        packed_(packed + c.packed),
        epilogue_(epilogue),
        fused_(any_step(epilogue)),
        reader_(c.h, c.w, c.groups * c.inputs, in),
        whole_rows_(c.w.taps == 1 || (c.w.step == 1 && c.groups == 1)),
        in_pixel_(c.groups * c.inputs),
        out_pixel_(c.groups * c.outputs) {}

  /// Flattened rows (image * rows + row) of the output, in panels of its channels.
  void run(Range rows, Range panels) const {
    const std::int64_t most =
        std::max<std::int64_t>(1, kBandFloats / (reader_.floats_per_row() + c_.w.out * out_pixel_));
    for_each_band(rows, c_.h.out, most, [&](const Band& band) { one_band(band, panels); });
  }

 private:
  void one_band(const Band& band, Range panels) const {
    const BandInput input = reader_.read(band);
    Tile tile{};
    tile.depth = whole_rows_ ? c_.w.taps * c_.inputs : c_.inputs;
    tile.a_row = c_.w.stride * in_pixel_;
    tile.a_col = 1;
    tile.c_row = c_.w.place_step * out_pixel_;

    static thread_local Scratch<std::int64_t> offset_scratch;
    const std::int64_t segments = whole_rows_ ? c_.h.taps : c_.h.taps * c_.w.taps;
    std::int64_t* offsets = offset_scratch.get(static_cast<std::size_t>(segments));
    for (std::int64_t g = 0; g < segments; ++g) {
      const std::int64_t r = whole_rows_ ? g : g / c_.w.taps, s = whole_rows_ ? 0 : g % c_.w.taps;
      offsets[g] = r * c_.h.step * input.row + s * c_.w.step * in_pixel_;
    }

    static thread_local Scratch<Spot> spot_scratch;
    Spot* spots =
        spot_scratch.get(static_cast<std::size_t>(band.count() * ceil_div(c_.w.out, kernel_.max_rows)));
    const std::int64_t spot_count = find_spots(band, input, tile, spots);
    tile.prefetch_step = ceil_div(kernel_.panel, spot_count);

    const std::int64_t slices = std::max<std::int64_t>(1, ceil_div(c_.depth() * kernel_.panel, kSliceFloats));
    for (std::int64_t p = panels.begin; p < panels.end; ++p) {
      const std::int64_t group = p / c_.panels(kernel_.panel);
      const std::int64_t first = p % c_.panels(kernel_.panel) * kernel_.panel;
      const std::int64_t channel = group * c_.outputs + first;
      tile.columns = static_cast<int>(std::min<std::int64_t>(kernel_.panel, c_.outputs - first));
      const float* panel = packed_ + p * c_.depth() * kernel_.panel;
      for (std::int64_t slice = 0; slice < slices; ++slice) {
        const Range part = part_of(segments, slice, slices);
        tile.segments = part.size();
        tile.a_offset = offsets + part.begin;
        tile.b = panel + part.begin * tile.depth * kernel_.panel;
        tile.prefetch =
            tile.b + part.size() * tile.depth * kernel_.panel;  // the next slice, or the next panel
        for (std::int64_t i = 0; i < spot_count; ++i) {
          tile.rows = spots[i].rows;
          tile.a = input.data + group * c_.inputs + spots[i].in;
          tile.a_run = spots[i].in_run;
          tile.c = out_ + channel + spots[i].out;
          tile.c_run = spots[i].out_run;
          tile.init = slice > 0 ? tile.c : nullptr;
          tile.init_row = tile.c_row;
          tile.init_run = tile.c_run;
          const Epilogue<float> here = from(epilogue_, channel, channel + spots[i].out);
          tile.epilogue = fused_ && slice + 1 == slices ? &here : nullptr;
          kernel_.tile(tile);
          tile.prefetch += tile.prefetch_step * tile.segments * tile.depth;
        }
      }
    }
  }

  /// Cuts the band's rows into tiles. Rows of seven pixels, as deep layers have, share one, two at a time.
  std::int64_t find_spots(const Band& band, const BandInput& input, const Tile& tile, Spot* spots) const {
    const bool paired = c_.w.out == kRun && kernel_.max_rows >= 2 * kRun;
    const std::int64_t tiles = ceil_div(c_.w.out, kernel_.max_rows);
    std::int64_t count = 0;
    for (std::int64_t q = 0; q < band.count(); ++q) {
      const std::int64_t image = q / band.rows.size(), row = q % band.rows.size();
      const std::int64_t place = c_.h.place + (band.rows.begin + row) * c_.h.place_step;
      const std::int64_t in = image * input.image + row * c_.h.stride * input.row;
      const std::int64_t out =
          (((band.images.begin + image) * c_.h.length + place - first_row_) * c_.w.length + c_.w.place) *
          out_pixel_;
      if (paired && q % 2 == 1) {
        Spot& pair = spots[count - 1];
        pair = {2 * kRun, pair.in, in - pair.in, pair.out, out - pair.out};
        continue;
      }
      for (std::int64_t t = 0; t < tiles; ++t) {
        const Range pixels = part_of(c_.w.out, t, tiles);
        spots[count++] = {static_cast<int>(pixels.size()), in + pixels.begin * tile.a_row, kRun * tile.a_row,
                          out + pixels.begin * tile.c_row, kRun * tile.c_row};
      }
    }
    return count;
  }

  const MicroKernel& kernel_;
  const Correlation c_;
  float* out_;
  std::int64_t first_row_;  // of all images, where `out` begins
  const float* packed_;
  const Epilogue<float>& epilogue_;
  bool fused_;
  InputReader reader_;
  bool whole_rows_;  // one segment per kernel row
  std::int64_t in_pixel_, out_pixel_;
};

}  // namespace

void direct_correlate(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass, float* out,
                      const float* in, const float* packed, const Epilogue<float>& epilogue) {
  const std::int64_t count = correlation_count(shape, pass);
  const Correlation most = correlation(shape, pass, kernel.panel, 0);  // no other has more rows
  const std::int64_t rows = most.images * most.h.out;
  if (rows == 0) return;

  // Costs in units of one row of pixels x one panel, which takes `steps` steps of the micro-kernel. A thread
  // also copies the input of its rows and fetches the weights of its panels, at about half a step a float.
  const double weights = static_cast<double>(shape.r * shape.s * most.inputs);  // per output channel
  const double inputs = static_cast<double>(most.h.in * most.w.in * most.groups * most.inputs);
  const double height = static_cast<double>(most.h.out);
  const double steps = std::max(1.0, weights * static_cast<double>(shape.oh * shape.ow) / height);
  const Work work{rows, most.groups * most.panels(kernel.panel), 0.5 * inputs / height / steps,
                  0.5 * weights * kernel.panel / steps};
  parallel_grid(work, [&](Range part, Range panels) {
    for (std::int64_t i = 0; i < count; ++i) {
      const Correlation c = correlation(shape, pass, kernel.panel, i);
      const std::int64_t own = c.images * c.h.out;
      const Range share{part.begin * own / rows, part.end * own / rows};
      if (share.size() > 0 && c.w.out > 0)
        Correlator(kernel, c, out, in, packed, epilogue).run(share, panels);
    }
  });
}

void direct_rows(const MicroKernel& kernel, const Conv2d& shape, Range rows, float* out, const float* in,
                 const float* packed, const Epilogue<float>& epilogue) {
  const Correlation c = correlation(shape, ConvPass::forward, kernel.panel, 0);
  Correlator(kernel, c, out, in, packed, epilogue, rows.begin)
      .run(rows, {0, c.groups * c.panels(kernel.panel)});
}

}  // namespace grapnel::kernels
