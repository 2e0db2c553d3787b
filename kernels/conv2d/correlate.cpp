// Forward convolution and input gradient. A tile of outputs is up to max_rows neighbouring pixels x one panel
// of channels. In channels-last memory the taps of one kernel row lie in one piece, s and c together, so the
// tile's sum is one segment per kernel row; with dilation or groups, one per tap.
#include <algorithm>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/conv2d/band.h"
#include "grapnel/kernels/conv2d/correlation.h"
#include "grapnel/kernels/conv2d/direct.h"

namespace grapnel::kernels {
namespace {

constexpr std::int64_t kBandFloats =
    96 * 1024;  // of input: with the output and a panel, within 1 MB of cache

class Correlator {
 public:
  Correlator(const MicroKernel& kernel, const Correlation& c, float* out, const float* in,
             const float* packed, const float* bias)
      : kernel_(kernel),
        c_(c),
        out_(out),
        packed_(packed + c.packed),
        bias_(bias),
        reader_(c.h, c.w, c.groups * c.inputs, in),
        whole_rows_(c.w.taps == 1 || (c.w.step == 1 && c.groups == 1)) {}

  void run() const {
    const std::int64_t panels = c_.groups * c_.panels(kernel_.panel);
    // In units of one row of pixels x one panel, which takes as many steps of the micro-kernel as the row has
    // pixels, times depth. A thread copies the input of its rows and fetches the weights of its panels: half
    // a step a float.
    const double steps = 2.0 * static_cast<double>(std::max<std::int64_t>(1, c_.w.out * c_.depth()));
    const Work work{c_.images * c_.h.out, panels, static_cast<double>(reader_.floats_per_row()) / steps,
                    static_cast<double>(c_.depth() * kernel_.panel) / steps};
    parallel_grid(work, [&](Range rows, Range columns) { part(rows, columns); });
  }

 private:
  void part(Range rows, Range panels) const {
    const std::int64_t most =
        std::max<std::int64_t>(1, kBandFloats / std::max<std::int64_t>(1, reader_.floats_per_row()));
    for_each_band(rows, c_.h.out, most, [&](const Band& band) {
      const BandInput input = reader_.read(band);
      static thread_local Scratch<std::int64_t> scratch;
      Tile tile = start_tile(input, scratch);
      for (std::int64_t p = panels.begin; p < panels.end; ++p) one_panel(tile, band, input, p);
    });
  }

  /// What all tiles of a band have in common.
  Tile start_tile(const BandInput& input, Scratch<std::int64_t>& scratch) const {
    const std::int64_t pixel = c_.groups * c_.inputs;
    Tile tile{};
    tile.segments = whole_rows_ ? c_.h.taps : c_.h.taps * c_.w.taps;
    tile.depth = whole_rows_ ? c_.w.taps * c_.inputs : c_.inputs;
    std::int64_t* offsets = scratch.get(static_cast<std::size_t>(tile.segments));
    for (std::int64_t g = 0; g < tile.segments; ++g) {
      offsets[g] = whole_rows_ ? g * c_.h.step * input.row
                               : g / c_.w.taps * c_.h.step * input.row + g % c_.w.taps * c_.w.step * pixel;
    }
    tile.a_offset = offsets;
    tile.a_row = c_.w.stride * pixel;
    tile.a_col = 1;
    tile.c_row = c_.w.place_step * c_.groups * c_.outputs;
    return tile;
  }

  void one_panel(Tile tile, const Band& band, const BandInput& input, std::int64_t p) const {
    const std::int64_t group = p / c_.panels(kernel_.panel);
    const std::int64_t first = p % c_.panels(kernel_.panel) * kernel_.panel;
    const std::int64_t channel = group * c_.outputs + first;
    tile.columns = static_cast<int>(std::min<std::int64_t>(kernel_.panel, c_.outputs - first));
    tile.b = packed_ + p * c_.depth() * kernel_.panel;
    tile.init = bias_ ? bias_ + channel : nullptr;

    // Rows of seven pixels, as deep layers have, fill a tile two at a time.
    const bool paired = c_.w.out == kRun && kernel_.max_rows >= 2 * kRun;
    const std::int64_t tiles = ceil_div(c_.w.out, kernel_.max_rows);
    for (std::int64_t q = 0; q < band.count(); ++q) {
      const float* a = a_at(band, input, q) + group * c_.inputs;
      float* c = c_at(band, q) + channel;
      tile.a_run = kRun * tile.a_row;
      tile.c_run = kRun * tile.c_row;
      if (paired && q + 1 < band.count()) {
        tile.rows = 2 * kRun;
        tile.a = a;
        tile.c = c;
        ++q;
        tile.a_run = a_at(band, input, q) + group * c_.inputs - a;
        tile.c_run = c_at(band, q) + channel - c;
        kernel_.tile(tile);
        continue;
      }
      for (std::int64_t t = 0; t < tiles; ++t) {
        const Range pixels = part_of(c_.w.out, t, tiles);
        tile.rows = static_cast<int>(pixels.size());
        tile.a = a + pixels.begin * tile.a_row;
        tile.c = c + pixels.begin * tile.c_row;
        kernel_.tile(tile);
      }
    }
  }

  /// Input and output of the band's q-th row, its images one after another.
  const float* a_at(const Band& band, const BandInput& input, std::int64_t q) const {
    return input.data + q / band.rows.size() * input.image + q % band.rows.size() * c_.h.stride * input.row;
  }
  float* c_at(const Band& band, std::int64_t q) const {
    const std::int64_t image = band.images.begin + q / band.rows.size();
    const std::int64_t row = c_.h.place + (band.rows.begin + q % band.rows.size()) * c_.h.place_step;
    return out_ + ((image * c_.h.length + row) * c_.w.length + c_.w.place) * c_.groups * c_.outputs;
  }

  const MicroKernel& kernel_;
  const Correlation c_;
  float* out_;
  const float* packed_;
  const float* bias_;
  InputReader reader_;
  bool whole_rows_;
};

}  // namespace

void direct_correlate(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass, float* out,
                      const float* in, const float* packed, const float* bias) {
  for (std::int64_t i = 0; i < correlation_count(shape, pass); ++i) {
    const Correlation c = correlation(shape, pass, kernel.panel, i);
    if (c.images * c.h.out * c.w.out > 0) Correlator(kernel, c, out, in, packed, bias).run();
  }
}

}  // namespace grapnel::kernels
