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
#include "grapnel/kernels/gemm/transpose.h"

namespace grapnel::kernels {
namespace {

constexpr std::int64_t kBandFloats = 160 * 1024;  // of x and dy: second-level cache
constexpr std::int64_t kBlockPixels = 256;        // of a panel of dy: first-level cache

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
    const std::int64_t units = p_.r * (whole_rows_ ? 1 : p_.s) * tiles_;
    // For each pixel a unit x a panel takes max_rows steps; copying x and dy takes about half a step a float.
    const double unit = 2.0 * kernel_.max_rows;
    const Work work{units, p_.groups * c_.panels(kernel_.panel),
                    static_cast<double>(p_.c) / static_cast<double>(units) / unit, kernel_.panel / unit};
    parallel_grid(work, [&](Range rows, Range panels) { part(rows, panels); });
  }

 private:
  /// Row of the ((r, s, c), k) matrix where a unit begins.
  std::int64_t row_of(std::int64_t unit) const {
    return unit / tiles_ * extent_ + part_of(extent_, unit % tiles_, tiles_).begin;
  }

  void part(Range units, Range panels) const {
    const std::int64_t row_floats = reader_.floats_per_row() + p_.ow * p_.k;
    const std::int64_t most = std::max(block_rows(), kBandFloats / row_floats);
    const Range rows{row_of(units.begin), row_of(units.end)}, pixels{0, p_.n * p_.oh};
    const bool one_band =
        pixels.size() <= most;  // then one panel of sums is enough, written out while in cache

    static thread_local Scratch<float> sum_scratch, dy_scratch;
    static thread_local Scratch<std::int64_t> offset_scratch;
    const std::int64_t panel_sums = rows.size() * kernel_.panel;
    float* sums = sum_scratch.get(static_cast<std::size_t>((one_band ? 1 : panels.size()) * panel_sums));

    for_each_band(pixels, p_.oh, most, [&](const Band& band) {
      const BandInput input = reader_.read(band);
      std::int64_t* offsets = offset_scratch.get(static_cast<std::size_t>(band.count()));
      for (std::int64_t q = 0; q < band.count(); ++q) {
        offsets[q] = q / band.rows.size() * input.image + q % band.rows.size() * p_.stride_h * input.row;
      }
      const bool first = band.images.begin == 0 && band.rows.begin == 0;
      const bool last = band.images.end == p_.n && band.rows.end == p_.oh;
      for (std::int64_t p = panels.begin; p < panels.end; ++p) {
        float* to = sums + (one_band ? 0 : p - panels.begin) * panel_sums;
        add_band(band, input, offsets, pack_dy(band, p, dy_scratch), units, p, first, to);
        if (last) write(to, rows, p);
      }
    });
  }

  std::int64_t block_rows() const { return std::max<std::int64_t>(1, kBlockPixels / p_.ow); }

  /// sums (+)= the band's part of rows `units` of panel p.
  void add_band(const Band& band, const BandInput& input, const std::int64_t* offsets, const float* dy,
                Range units, std::int64_t p, bool first, float* sums) const {
    const std::int64_t group = p / c_.panels(kernel_.panel);
    Tile tile{};
    tile.columns = kernel_.panel;
    tile.depth = p_.ow;
    tile.a_row = 1;
    tile.a_run = kRun;
    tile.a_col = p_.stride_w * p_.c;
    tile.c_row = tile.init_row = kernel_.panel;
    tile.c_run = tile.init_run = kRun * kernel_.panel;
    for (std::int64_t q = 0; q < band.count(); q += block_rows()) {
      tile.segments = std::min(block_rows(), band.count() - q);
      tile.a_offset = offsets + q;
      tile.b = dy + q * p_.ow * kernel_.panel;
      tile.c = sums;
      for (std::int64_t u = units.begin; u < units.end; ++u) {
        const std::int64_t tap = u / tiles_, r = whole_rows_ ? tap : tap / p_.s,
                           s = whole_rows_ ? 0 : tap % p_.s;
        const Range piece = part_of(extent_, u % tiles_, tiles_);
        tile.rows = static_cast<int>(piece.size());
        tile.a =
            input.data + r * p_.dil_h * input.row + s * p_.dil_w * p_.c + group * c_.inputs + piece.begin;
        tile.init = first && q == 0 ? nullptr : tile.c;
        kernel_.tile(tile);
        tile.c += piece.size() * kernel_.panel;
      }
    }
  }

  /// dy of the band in panel p: [pixel][panel columns], zero beyond the last channel of a group.
  const float* pack_dy(const Band& band, std::int64_t p, Scratch<float>& scratch) const {
    const std::int64_t pixels = band.count() * p_.ow;
    const std::int64_t first_pixel = (band.images.begin * p_.oh + band.rows.begin) * p_.ow;
    const std::int64_t first = p % c_.panels(kernel_.panel) * kernel_.panel;
    const std::int64_t columns = std::min<std::int64_t>(kernel_.panel, c_.outputs - first);
    const float* from = dy_ + first_pixel * p_.k + p / c_.panels(kernel_.panel) * c_.outputs + first;
    float* packed = scratch.get(static_cast<std::size_t>(pixels * kernel_.panel));
    for (float* to = packed; to != packed + pixels * kernel_.panel; to += kernel_.panel, from += p_.k) {
      std::copy(from, from + columns, to);
      std::fill(to + columns, to + kernel_.panel, 0.0f);
    }
    return packed;
  }

  /// Rows `rows` of panel p, whose order is (r, s, c), to dw (K, C/groups, R, S).
  void write(const float* sums, Range rows, std::int64_t p) const {
    const std::int64_t taps = p_.r * p_.s, elements = c_.inputs * taps;
    const std::int64_t first = p % c_.panels(kernel_.panel) * kernel_.panel;
    const std::int64_t columns = std::min<std::int64_t>(kernel_.panel, c_.outputs - first);
    float* to = dw_ + (p / c_.panels(kernel_.panel) * c_.outputs + first) * elements;
    std::int64_t channel = 0, tap = 0;  // of element e
    for (std::int64_t e = 0; e < elements; e += kernel_.lanes) {
      const std::int64_t count = std::min<std::int64_t>(kernel_.lanes, elements - e);
      const float* in[kMaxLanes];
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t row = tap * c_.inputs + channel;
        in[i] = row >= rows.begin && row < rows.end ? sums + (row - rows.begin) * kernel_.panel : nullptr;
        if (++tap == taps) {
          tap = 0;
          ++channel;
        }
      }
      for (std::int64_t k = 0; k < columns; k += kernel_.lanes) {
        const std::int64_t width = std::min<std::int64_t>(kernel_.lanes, columns - k);
        float* out[kMaxLanes];
        for (std::int64_t j = 0; j < width; ++j) out[j] = to + (k + j) * elements + e;
        transpose(kernel_, count, width, in, out);
        for (std::int64_t i = 0; i < count; ++i) in[i] += in[i] != nullptr ? kernel_.lanes : 0;
      }
    }
  }

  const MicroKernel& kernel_;
  const Conv2d p_;
  const Correlation c_;
  float* dw_;
  const float* dy_;
  InputReader reader_;
  bool whole_rows_;              // (s, c) of a pixel lie in one piece
  std::int64_t extent_, tiles_;  // the length of such a piece, and in how many tiles it is cut
};

}  // namespace

void direct_weight_grad(const MicroKernel& kernel, const Conv2d& shape, float* dw, const float* x,
                        const float* dy) {
  if (shape.n * shape.oh * shape.ow == 0) {
    std::fill(dw, dw + shape.k * (shape.c / shape.groups) * shape.r * shape.s, 0.0f);
    return;
  }
  WeightGrad(kernel, shape, dw, x, dy).run();
}

}  // namespace grapnel::kernels
