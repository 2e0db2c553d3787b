// Forward pass and input gradient where tiles are few, as in deep layers of one picture: reading the filters
// from memory decides there, and mapped ones are four times as many. Here the 9 taps are read, and mapped in
// registers, again for each group of tiles.
#include "grapnel/kernels/common/finish.h"
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/gemm/transpose.h"
#include "grapnel/kernels/winograd/tiles.h"

namespace grapnel::kernels {
namespace {

// Inputs whose taps and mapped tiles fit the first-level cache together.
constexpr std::int64_t kChunk = 32;

class FewCorrelator {
 public:
  FewCorrelator(const MicroKernel& kernel, const Winograd& winograd, const WinogradShape& shape, float* out,
                const float* in, const float* packed, const Epilogue<float>& epilogue)
      : kernel_(kernel),
        maps_(winograd.four),
        few_(winograd.few),
        s_(shape),
        grid_(shape, maps_.outputs),
        groups_(ceil_div(grid_.count, few_.tiles)),
        columns_(maps_.places() * few_.tiles),
        out_(out),
        in_(in),
        packed_(packed),
        epilogue_(epilogue) {}

  /// Vectors of outputs, all tiles.
  void run(Range vectors) const {
    static thread_local Scratch<float> input_scratch, product_scratch;
    const std::int64_t padded = ceil_div(s_.inputs, kernel_.lanes) * kernel_.lanes;
    const std::int64_t group_inputs = padded * columns_, group_products = columns_ * kernel_.lanes;
    float* mapped = input_scratch.get(static_cast<std::size_t>(groups_ * group_inputs));
    float* products = product_scratch.get(static_cast<std::size_t>(groups_ * group_products));
    for (std::int64_t g = 0; g < groups_; ++g) map_inputs(g, padded, mapped + g * group_inputs);

    const std::int64_t tap_floats = 9 * kernel_.lanes;
    for (std::int64_t v = vectors.begin; v < vectors.end; ++v) {
      for (std::int64_t c = 0; c < s_.inputs; c += kChunk) {
        FewTiles part{};
        part.depth = std::min(kChunk, s_.inputs - c);
        part.taps = packed_ + (v * s_.inputs + c) * tap_floats;
        part.next = part.taps + part.depth * tap_floats;
        part.first = c == 0;
        for (std::int64_t g = 0; g < groups_; ++g) {
          part.mapped = mapped + g * group_inputs + c * columns_;
          part.products = products + g * group_products;
          few_.multiply(part);
          part.next = part.taps;  // once is enough
        }
      }
      for (std::int64_t g = 0; g < groups_; ++g) map_outputs(g, v, products + g * group_products);
    }
  }

 private:
  Range tiles_of(std::int64_t group) const {
    return {group * few_.tiles, std::min(grid_.count, (group + 1) * few_.tiles)};
  }

  /// One group's inputs, [input][place][tile], zero for tiles there are none of.
  void map_inputs(std::int64_t group, std::int64_t padded, float* mapped) const {
    static thread_local Scratch<float> plane_scratch, zero_scratch;
    float* planes = plane_scratch.get(static_cast<std::size_t>(columns_ * padded));
    float* zeros = zero_scratch.get(static_cast<std::size_t>(s_.inputs));
    std::fill(zeros, zeros + s_.inputs, 0.0f);
    const Range tiles = tiles_of(group);
    if (tiles.size() < few_.tiles || s_.inputs < padded) std::fill(planes, planes + columns_ * padded, 0.0f);
    const float* pixels[kMaxReach * kMaxReach];
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t) {
      const TilePlace at = grid_.at(t);
      point_to_pixels(in_ + at.image * s_.in_h * s_.in_w * s_.inputs, s_.in_h, s_.in_w, s_.inputs,
                      at.row - s_.pad_h, at.column - s_.pad_w, maps_.reach, zeros, pixels);
      maps_.input(pixels, s_.inputs, planes + (t - tiles.begin) * padded, few_.tiles * padded);
    }
    const float* from[kMaxLanes];
    float* to[kMaxLanes];
    for (std::int64_t row = 0; row < columns_; row += kernel_.lanes) {
      for (std::int64_t c = 0; c < padded; c += kernel_.lanes) {
        for (std::int64_t i = 0; i < kernel_.lanes; ++i) {
          from[i] = planes + (row + i) * padded + c;
          to[i] = mapped + (c + i) * columns_ + row;
        }
        kernel_.transpose(from, to);
      }
    }
  }

  void map_outputs(std::int64_t group, std::int64_t vector, const float* products) const {
    const std::int64_t channel = vector * kernel_.lanes;
    const std::int64_t columns = std::min<std::int64_t>(kernel_.lanes, s_.outputs - channel);
    const Epilogue<float> epilogue = from(epilogue_, channel, channel);
    const Range tiles = tiles_of(group);
    for (std::int64_t t = tiles.begin; t < tiles.end; ++t, products += kernel_.lanes)
      maps_.output(products, few_.tiles * kernel_.lanes, columns, out_ + channel, output_tile(s_, grid_, t),
                   epilogue);
  }

  const MicroKernel& kernel_;
  const WinogradMaps& maps_;
  const FewKernel& few_;
  const WinogradShape s_;
  const TileGrid grid_;
  const std::int64_t groups_, columns_;
  float* out_;
  const float* in_;
  const float* packed_;
  const Epilogue<float>& epilogue_;
};

}  // namespace

void winograd_few_correlate(const MicroKernel& kernel, const Winograd& winograd, const Conv2d& shape,
                            ConvPass pass, float* out, const float* in, const float* packed,
                            const Epilogue<float>& epilogue) {
  const WinogradShape s = winograd_shape(shape, pass);
  if (s.images * s.out_h * s.out_w == 0) return;
  parallel_for(ceil_div(s.outputs, kernel.lanes), 1, [&](std::int64_t begin, std::int64_t end) {
    FewCorrelator(kernel, winograd, s, out, in, packed, epilogue).run({begin, end});
  });
}

}  // namespace grapnel::kernels
