// Filters of seven rows that move by two, as stems have, by tiles of four output rows and one column. Their
// thirteen input rows are mapped whole; then at each of thirteen places the sum of an output runs over the
// columns and channels of one mapped row, which lie in one piece, as in the direct convolution.
#include <algorithm>

#include "grapnel/kernels/common/finish.h"
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/winograd/tiles.h"

namespace grapnel::kernels {
namespace {

class RowTiles {
 public:
  RowTiles(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, float* out,
           std::int64_t first_row, const float* in, const float* packed, const Epilogue<float>& epilogue)
      : kernel_(kernel),
        maps_(maps),
        p_(shape),
        depth_(shape.s * shape.c),
        before_(std::min(shape.pad_w, reach()) * shape.c),
        middle_(std::min(shape.w, reach() - before_ / shape.c) * shape.c),
        plane_(reach() * shape.c),
        out_(out),
        first_row_(first_row),
        in_(in),
        packed_(packed),
        epilogue_(epilogue) {}

  /// Rows counted through all images, from the first of a tile on.
  void run(Range rows) const {
    static thread_local Scratch<float> scratch, zero_scratch;
    float* mapped = scratch.get(static_cast<std::size_t>(maps_.reach * plane_));
    float* zeros = zero_scratch.get(static_cast<std::size_t>(middle_));
    std::fill(mapped, mapped + maps_.reach * plane_, 0.0f);  // what lies beside the picture stays so
    std::fill(zeros, zeros + middle_, 0.0f);
    std::int64_t count = 0;
    for (std::int64_t at = rows.begin; at < rows.end; at += count) {
      count = std::min({std::int64_t{maps_.outputs}, p_.oh - at % p_.oh, rows.end - at});
      map_inputs(at / p_.oh, at % p_.oh, mapped + before_, zeros);
      const std::int64_t blocks = ceil_div(p_.ow, kernel_.max_rows);
      for (std::int64_t b = 0; b < blocks; ++b)
        one_block(mapped, part_of(p_.ow, b, blocks), (at - first_row_) * p_.ow, static_cast<int>(count));
    }
  }

 private:
  /// Columns that the outputs of a row read.
  std::int64_t reach() const { return (p_.ow - 1) * p_.stride_w + p_.s; }

  void map_inputs(std::int64_t image, std::int64_t row, float* mapped, const float* zeros) const {
    const float* from[kMaxReach * kMaxReach];
    for (std::int64_t i = 0; i < maps_.reach; ++i) {
      const std::int64_t h = row * p_.stride_h - p_.pad_h + i;
      from[i] = h >= 0 && h < p_.h ? in_ + (image * p_.h + h) * p_.w * p_.c : zeros;
    }
    maps_.input(from, middle_, mapped, plane_);
  }

  /// `count` rows of the pixels that one tile of the micro-kernel takes; `pixel` is the first of these rows
  /// in the output. What is made of a panel stays in the first-level cache until it is mapped back.
  void one_block(const float* mapped, Range pixels, std::int64_t pixel, int count) const {
    static thread_local Scratch<float> scratch;
    const std::int64_t product_plane = pixels.size() * kernel_.panel, no_offset = 0;
    float* products = scratch.get(static_cast<std::size_t>(maps_.reach * product_plane));
    Tile tile{};
    tile.rows = static_cast<int>(pixels.size());
    tile.segments = 1;
    tile.depth = depth_;
    tile.a_offset = &no_offset;
    tile.a_row = p_.stride_w * p_.c;
    tile.a_run = kRun * tile.a_row;
    tile.a_col = 1;
    tile.b = packed_;
    tile.c_row = kernel_.panel;
    tile.c_run = kRun * kernel_.panel;
    tile.prefetch_step = kernel_.panel;
    for (std::int64_t channel = 0; channel < p_.k; channel += kernel_.panel) {
      const std::int64_t columns = std::min<std::int64_t>(kernel_.panel, p_.k - channel);
      tile.columns = static_cast<int>(whole_vectors(kernel_, columns));
      for (int place = 0; place < maps_.reach; ++place) {
        tile.a = mapped + place * plane_ + pixels.begin * tile.a_row;
        tile.c = products + place * product_plane;
        tile.prefetch = tile.b + depth_ * kernel_.panel;
        kernel_.tile(tile);
        tile.b += depth_ * kernel_.panel;
      }
      const Epilogue<float> epilogue = from(epilogue_, channel, channel);
      for (std::int64_t i = 0; i < pixels.size(); ++i)
        maps_.output(products + i * kernel_.panel, product_plane, columns, out_ + channel,
                     {(pixel + pixels.begin + i) * p_.k, p_.ow * p_.k, p_.k, count, 1}, epilogue);
    }
  }

  const MicroKernel& kernel_;
  const WinogradMaps& maps_;
  const Conv2d p_;
  const std::int64_t depth_;
  const std::int64_t before_, middle_, plane_;  // floats of a mapped row: zeros, those with a picture, all
  float* out_;
  std::int64_t first_row_;  // of all images, where `out` begins
  const float* in_;
  const float* packed_;
  const Epilogue<float>& epilogue_;
};

}  // namespace

bool winograd_rows_applies(const Conv2d& p) {
  return p.r == kStemTaps && p.stride_h == 2 && p.dil_h == 1 && p.dil_w == 1 && p.groups == 1;
}

std::size_t winograd_rows_packed_size(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& p) {
  return static_cast<std::size_t>(maps.filters * ceil_div(p.k, kernel.panel) * kernel.panel * p.s * p.c);
}

/// To [panel][filter][column][input][panel], zero beyond the outputs.
void winograd_rows_pack(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& p, float* packed,
                        const float* w, const std::int64_t* w_strides) {
  const std::int64_t width = kernel.panel, panels = ceil_div(p.k, width), depth = p.s * p.c;
  parallel_for(panels * depth, 16, [&](std::int64_t begin, std::int64_t end) {
    static thread_local Scratch<float> scratch;
    float* taps = scratch.get(static_cast<std::size_t>(kStemTaps * width));
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t panel = i / depth, column = i % depth / p.c, input = i % p.c;
      const float* from = w + panel * width * w_strides[0] + input * w_strides[1] + column * w_strides[3];
      for (std::int64_t j = 0; j < width; ++j)
        for (std::int64_t r = 0; r < kStemTaps; ++r)
          taps[r * width + j] = panel * width + j < p.k ? from[j * w_strides[0] + r * w_strides[2]] : 0.0f;
      maps.filter(taps, width, width, packed + (panel * maps.filters * depth + i % depth) * width,
                  depth * width);
    }
  });
}

void winograd_rows_forward(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, float* y,
                           const float* x, const float* packed, const Epilogue<float>& epilogue) {
  const std::int64_t down = ceil_div(shape.oh, maps.outputs);
  if (shape.ow == 0 || shape.k == 0) return;
  parallel_for(shape.n * down, 1, [&](std::int64_t begin, std::int64_t end) {
    const auto row = [&](std::int64_t tile) {
      return tile / down * shape.oh + std::min(tile % down * maps.outputs, shape.oh);
    };
    RowTiles(kernel, maps, shape, y, 0, x, packed, epilogue).run({row(begin), row(end)});
  });
}

void winograd_rows(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, Range rows,
                   float* out, const float* in, const float* packed, const Epilogue<float>& epilogue) {
  RowTiles(kernel, maps, shape, out, rows.begin, in, packed, epilogue).run(rows);
}

}  // namespace grapnel::kernels
