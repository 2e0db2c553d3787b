// Weight gradient. For one kernel row r, dw[r, (s, c), k] is a matrix product over output pixels: x, where
// (s, c) of a pixel lie in one piece, times dy. A tile of it stays in registers for a block of pixels; blocks
// are added up in float in the order of the pixels. Threads share out the elements of dw, never the pixels:
// same bits always.
#include <algorithm>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/conv2d/band.h"
#include "grapnel/kernels/conv2d/correlation.h"
#include "grapnel/kernels/conv2d/direct.h"

namespace grapnel::kernels {
namespace {

constexpr std::int64_t kBandFloats = 160 * 1024;  // of x and dy
constexpr std::int64_t kBlockPixels = 256;        // of dy: a packed panel of them fits the first-level cache

class WeightGrad {
 public:
  WeightGrad(const MicroKernel& kernel, const Conv2d& shape, float* dw, const float* x, const float* dy)
      : kernel_(kernel),
        p_(shape),
        c_(correlation(shape, ConvPass::forward, kernel.panel, 0)),
        dw_(dw),
        dy_(dy),
        reader_(c_.h, c_.w, shape.c, x),
        whole_rows_(shape.s == 1 || (shape.dil_w == 1 && shape.groups == 1)),
        extent_(whole_rows_ ? shape.s * c_.inputs : c_.inputs),
        tiles_(ceil_div(extent_, kernel.max_rows)) {}

  void run() const {
    const std::int64_t rows = p_.r * (whole_rows_ ? 1 : p_.s) * tiles_;
    const std::int64_t panels = p_.groups * c_.panels(kernel_.panel);
    // Per pixel a unit takes max_rows steps; the copies of x and of dy cost about half a step a float.
    const double row_cost = static_cast<double>(p_.c) / static_cast<double>(2 * kernel_.max_rows * rows);
    parallel_grid({rows, panels, row_cost, 1.0}, [&](Range units, Range columns) { part(units, columns); });
  }

 private:
  /// Row of the (r, s, c) x k matrix where a unit begins.
  std::int64_t row_of(std::int64_t unit) const {
    return unit / tiles_ * extent_ + part_of(extent_, unit % tiles_, tiles_).begin;
  }

  void part(Range units, Range panels) const {
    static thread_local Scratch<float> sums_scratch, dy_scratch;
    static thread_local Scratch<std::int64_t> offset_scratch;
    const Range rows{row_of(units.begin), row_of(units.end)};
    const std::int64_t width = panels.size() * kernel_.panel;
    float* sums = sums_scratch.get(static_cast<std::size_t>(rows.size() * width));
    const std::int64_t row_floats = reader_.floats_per_row() + p_.ow * p_.k;
    const std::int64_t block_rows = std::max<std::int64_t>(1, kBlockPixels / p_.ow);
    const std::int64_t band_rows = std::max(block_rows, kBandFloats / row_floats);

    bool first = true;
    for_each_band({0, p_.n * p_.oh}, p_.oh, band_rows, [&](const Band& band) {
      const BandInput input = reader_.read(band);
      const float* dy = pack_dy(band, panels, dy_scratch);
      std::int64_t* offsets = offset_scratch.get(static_cast<std::size_t>(band.count()));
      for (std::int64_t q = 0; q < band.count(); ++q) {
        offsets[q] = q / band.rows.size() * input.image + q % band.rows.size() * p_.stride_h * input.row;
      }
      for (std::int64_t q = 0; q < band.count(); q += block_rows) {
        Tile tile{};
        tile.segments = std::min(block_rows, band.count() - q);
        tile.depth = p_.ow;
        tile.a_offset = offsets + q;
        tile.a_row = 1;
        tile.a_run = kRun;
        tile.a_col = p_.stride_w * p_.c;
        tile.c_row = width;
        tile.c_run = kRun * width;
        for (std::int64_t p = panels.begin; p < panels.end; ++p) {
          const std::int64_t local = p - panels.begin;
          tile.b = dy + (local * band.count() + q) * p_.ow * kernel_.panel;
          tile.columns = kernel_.panel;
          for (std::int64_t u = units.begin; u < units.end; ++u) {
            tile.rows = static_cast<int>(part_of(extent_, u % tiles_, tiles_).size());
            tile.a = a_of(input, u, p / c_.panels(kernel_.panel));
            tile.c = sums + (row_of(u) - rows.begin) * width + local * kernel_.panel;
            if (!first) {
              tile.init = tile.c;
              tile.init_row = tile.c_row;
              tile.init_run = tile.c_run;
            }
            kernel_.tile(tile);
          }
        }
        first = false;
      }
    });
    write(sums, rows, panels, first);
  }

  /// First x value of a unit's tile for the band's first output pixel.
  const float* a_of(const BandInput& input, std::int64_t unit, std::int64_t group) const {
    const std::int64_t tap = unit / tiles_, r = whole_rows_ ? tap : tap / p_.s,
                       s = whole_rows_ ? 0 : tap % p_.s;
    return input.data + r * p_.dil_h * input.row + s * p_.dil_w * p_.c + group * c_.inputs +
           part_of(extent_, unit % tiles_, tiles_).begin;
  }

  /// dy of the band as [panel][pixel][panel columns], zero beyond the last channel of a group.
  const float* pack_dy(const Band& band, Range panels, Scratch<float>& scratch) const {
    const std::int64_t pixels = band.count() * p_.ow;
    const std::int64_t first_pixel = (band.images.begin * p_.oh + band.rows.begin) * p_.ow;
    float* packed = scratch.get(static_cast<std::size_t>(panels.size() * pixels * kernel_.panel));
    float* to = packed;
    for (std::int64_t p = panels.begin; p < panels.end; ++p) {
      const std::int64_t column = p % c_.panels(kernel_.panel) * kernel_.panel;
      const std::int64_t columns = std::min<std::int64_t>(kernel_.panel, c_.outputs - column);
      const float* from = dy_ + first_pixel * p_.k + p / c_.panels(kernel_.panel) * c_.outputs + column;
      for (std::int64_t i = 0; i < pixels; ++i, from += p_.k, to += kernel_.panel) {
        std::copy(from, from + columns, to);
        std::fill(to + columns, to + kernel_.panel, 0.0f);
      }
    }
    return packed;
  }

  /// sums (r, s, c) x k to dw (K, C/groups, R, S): in squares small enough that both sides stay in cache.
  void write(const float* sums, Range rows, Range panels, bool nothing_summed) const {
    constexpr std::int64_t kSquare = 16;
    const std::int64_t taps = p_.r * p_.s, width = panels.size() * kernel_.panel;
    for (std::int64_t p = panels.begin; p < panels.end; ++p) {
      const std::int64_t first = p % c_.panels(kernel_.panel) * kernel_.panel;
      const std::int64_t columns = std::min<std::int64_t>(kernel_.panel, c_.outputs - first);
      const std::int64_t channel = p / c_.panels(kernel_.panel) * c_.outputs + first;
      const float* from = sums + (p - panels.begin) * kernel_.panel;
      for (std::int64_t c0 = 0; c0 < c_.inputs; c0 += kSquare) {
        for (std::int64_t tap = 0; tap < taps; ++tap) {
          const std::int64_t begin = std::max(tap * c_.inputs + c0, rows.begin);
          const std::int64_t end = std::min(tap * c_.inputs + std::min(c0 + kSquare, c_.inputs), rows.end);
          for (std::int64_t row = begin; row < end; ++row) {
            float* to = dw_ + (channel * c_.inputs + row - tap * c_.inputs) * taps + tap;
            for (std::int64_t k = 0; k < columns; ++k) {
              to[k * c_.inputs * taps] = nothing_summed ? 0.0f : from[(row - rows.begin) * width + k];
            }
          }
        }
      }
    }
  }

  const MicroKernel& kernel_;
  const Conv2d p_;
  const Correlation c_;
  float* dw_;
  const float* dy_;
  InputReader reader_;
  bool whole_rows_;
  std::int64_t extent_, tiles_;  // rows of one piece of x, and in how many tiles they are cut
};

}  // namespace

void direct_weight_grad(const MicroKernel& kernel, const Conv2d& shape, float* dw, const float* x,
                        const float* dy) {
  WeightGrad(kernel, shape, dw, x, dy).run();
}

}  // namespace grapnel::kernels
