// The first convolution of a network on Hopper, of a few channels, by the product of gemm/hopper.cuh.
//
// A tap's channels alone would fill little of a step. But what a row of the filter reads for one pixel of y
// is one piece, columns and channels together, once x has its zeros around it. So x is laid out first:
//
//   laid (part, n, row, column, (g, c)) = x (n, row - pad_h + g, column - pad_w, c), 0 where x has no pixel,
//
// in pixels of whole 16 bytes with the channels of `together` rows, their own and those below. A step is a
// segment of the filter: so many of its rows, and up to 128 bytes of their columns. A tensor map whose rows
// overlap, as they begin a pixel of y apart, fetches it for a tile of y: a rectangle of 128 pixels. What lies
// behind a filter's row is no part of the map, so that nothing is multiplied that a pixel does not read.
#pragma once

#include "grapnel/kernels/conv2d/hopper.cuh"

namespace grapnel::kernels {

/// How a convolution is made so.
struct StemShape {
  int n, r, s;
  Divisor c;
  int together;           // rows of the filter in a segment
  Divisor pixel, pieces;  // elements of a laid pixel; segments that its rows are cut into
  int depth, segments;    // elements of a segment
  Divisor rows, columns;  // laid
  int oh, ow;
  Divisor tile_w, tiles_h, tiles_w;  // pixels of y
  int tile_h;

  /// The last segments begin early enough to end with the filter.
  GRAPNEL_DEVICE int first_row(int segment) const {
    const int first = segment / pieces * together;
    return first < r - together ? first : r - together;
  }
  /// What element i of a segment is multiplied with; r is -1 if nothing, or if a segment before has had it.
  GRAPNEL_DEVICE Tap tap(int segment, int i) const {
    const int at = segment % pieces * depth + i, in_pixel = at % pixel;
    const int row = first_row(segment) + in_pixel / c;
    const bool there = at / pixel < s && in_pixel < together * c && row >= segment / pieces * together;
    return {there ? row : -1, at / pixel, in_pixel % c};
  }
};

/// Rows and columns that are laid of each picture: those that are read, and as many more as make strides of a
/// tensor map multiples of each other.
inline std::array<std::int64_t, 2> laid_size(const Conv2d& p) {
  const auto laid = [](std::int64_t out, std::int64_t kernel, std::int64_t stride) {
    return (out - 1 + (kernel + stride - 1) / stride) * stride;
  };
  return {laid(p.oh, p.r, p.stride_h), laid(p.ow, p.s, p.stride_w)};
}

/// How wide a tile of so many pixels of y is: as leaves the fewest tiles.
inline std::int64_t stem_tile_width(const Conv2d& p, std::int64_t pixels) {
  const auto tiles = [&](std::int64_t width) {
    const std::int64_t height = pixels / width;
    return ((p.oh + height - 1) / height) * ((p.ow + width - 1) / width);
  };
  std::int64_t best = 16;
  for (std::int64_t width = 8; width <= pixels; width *= 2)
    if (tiles(width) < tiles(best)) best = width;
  return best;
}

/// For tiles of `pixels`. Of a pixel of 16 bytes more rows would be more to write and read again; products of
/// parts take longer than that, so there as many rows as one step holds are multiplied at once.
template <class Way>
StemShape stem_shape(const Conv2d& p, std::int64_t pixels) {
  constexpr std::int64_t kElement = sizeof(ElementOf<Way>);
  const auto i = [](std::int64_t size) { return static_cast<int>(size); };
  const std::int64_t widest = Way::kParts == 1 ? 16 : std::max<std::int64_t>(128 / p.s / 16 * 16, 16);
  const std::int64_t together = std::min(p.r, std::max<std::int64_t>(widest / kElement / p.c, 1)),
                     pixel = (together * p.c * kElement + 15) / 16 * 16 / kElement,
                     pieces = (p.s * pixel + kHopperDepth<Way> - 1) / kHopperDepth<Way>,
                     width = stem_tile_width(p, pixels), height = pixels / width;
  const auto [rows, columns] = laid_size(p);
  return {.n = i(p.n),
          .r = i(p.r),
          .s = i(p.s),
          .c = p.c,
          .together = i(together),
          .pixel = pixel,
          .pieces = pieces,
          .depth = kHopperDepth<Way>,
          .segments = i((p.r + together - 1) / together * pieces),
          .rows = rows,
          .columns = columns,
          .oh = i(p.oh),
          .ow = i(p.ow),
          .tile_w = width,
          .tiles_h = (p.oh + height - 1) / height,
          .tiles_w = (p.ow + width - 1) / width,
          .tile_h = i(height)};
}

/// Whether a convolution is made so: few channels and taps next to each other, as far as ints count what is
/// laid and the tiles' pixels.
inline bool runs_as_stem(const Conv2d& p) {
  if (p.groups != 1 || p.dil_h != 1 || p.dil_w != 1 || p.c < 1 || p.c > 4 || p.k < 32) return false;
  if (p.n * p.oh * p.ow == 0 || p.r * p.s == 0) return false;
  const auto [rows, columns] = laid_size(p);
  const std::int64_t tiles = ((p.oh + 7) / 8) * ((p.ow + 15) / 16);
  return std::max(p.n * rows * columns * 8, p.n * tiles * kHopperRows) <= std::numeric_limits<int>::max() &&
         device::has_hopper();
}

/// laid = the parts of x; 16 bytes of each a thread.
template <class Way, class T>
GRAPNEL_KERNEL(kBlockThreads)
lay_stem_kernel(ConvShape p, StemShape stem, Divisor vectors, std::int64_t count,
                device::Global<ElementOf<Way>> laid, device::Global<const T> x) {
  device::after_previous();
  constexpr int kWidth = 16 / sizeof(ElementOf<Way>);
  const std::int64_t i = element();
  if (i >= count) return;
  const int first = static_cast<int>(i) % vectors * kWidth;
  const Pixel at = pixel_of(static_cast<int>(i) / vectors, stem.rows, stem.columns);
  const int w = at.w - p.pad_w;
  int g = first / stem.c, channel = first % stem.c;
  device::Vector<float, kWidth> values;
  GRAPNEL_UNROLL
  for (int e = 0; e < kWidth; ++e) {
    const int h = at.h - p.pad_h + g;
    const bool there = g < stem.together && h >= 0 && h < p.h && w >= 0 && w < p.w;
    values[e] =
        there ? float_of(device::load(x, ((std::int64_t{at.n} * p.h + h) * p.w + w) * p.c + channel)) : 0;
    if (++channel == p.c) channel = 0, ++g;
  }
  store_parts<Way>(laid, i * kWidth, count * kWidth, values);
}

/// What is laid of x, until what is launched with it has ended.
template <class Way>
class LaidStem {
 public:
  template <class T>
  LaidStem(const char* name, const Conv2d& conv, const StemShape& p, const T* x)
      : elements_(std::int64_t{p.n} * p.rows * p.columns * p.pixel),
        memory_(static_cast<std::size_t>(Way::kParts * elements_) * sizeof(ElementOf<Way>)) {
    constexpr int kWidth = 16 / sizeof(ElementOf<Way>);
    launch_each(name, elements_ / kWidth, lay_stem_kernel<Way, T>, conv_shape(conv), p, p.pixel / kWidth,
                elements_ / kWidth, data(), x);
  }
  ElementOf<Way>* data() const { return memory_.template of<ElementOf<Way>>(); }

 private:
  std::int64_t elements_;  // of a part
  device::Workspace memory_;
};

/// Segments of what is laid, for a tile of y at once: (element, column of y, first row, row of y, picture);
/// a part is as many more pictures.
template <class Way>
device::TensorMap stem_segments(const Conv2d& conv, const StemShape& p, const ElementOf<Way>* laid) {
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const std::uint64_t pixel = u(p.pixel) * sizeof(ElementOf<Way>), row = u(p.columns) * pixel;
  return device::make_tensor_map(
      laid,
      device::TensorLayout{
          5,
          {u(p.s * p.pixel), u(p.ow), u(p.r - p.together + 1), u(p.oh), u(Way::kParts * p.n)},
          {sizeof(ElementOf<Way>), u(conv.stride_w) * pixel, row, u(conv.stride_h) * row, u(p.rows) * row},
          {kHopperDepth<Way>, static_cast<std::uint32_t>(p.tile_w), 1, static_cast<std::uint32_t>(p.tile_h),
           1}},
      device::Swizzle::bytes128, kHopperRounding<Way>);
}

/// Starts to copy what the pixels of a tile of y read for a segment.
template <class T>
GRAPNEL_DEVICE void load_segment(device::Shared<T> to, const device::TensorMap& segments, const StemShape& p,
                                 int part, int tile, int segment, device::Shared<device::Barrier> full) {
  const Pixel at = pixel_of(tile, p.tiles_h, p.tiles_w);
  device::load_tile(to, segments,
                    std::array{segment % p.pieces * p.depth, at.w * p.tile_w, p.first_row(segment),
                               at.h * p.tile_h, part * p.n + at.n},
                    full);
}

/// Patches of x: rows are pixels of y, tile by tile; steps are segments.
template <class Way>
struct StemPatches {
  static constexpr device::Major kMajor = device::Major::k;
  device::TensorMap map;
  StemShape p;

  GRAPNEL_DEVICE void load(device::Shared<ElementOf<Way>> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    load_segment(to, map, p, part, row / kHopperRows, step, full);
  }
};

/// Where the results of a tile's pixels go: an Output of all pixels sees those that are some.
template <class Output>
struct StoreTiles {
  Output all;
  StemShape p;
  float* moments;  // as in `all`

  bool in_fours() const { return all.in_fours(); }
  template <int width>
  GRAPNEL_DEVICE void operator()(int group, int row, int n, const device::Vector<float, width>& sums) const {
    const Pixel tile = pixel_of(row / kHopperRows, p.tiles_h, p.tiles_w);
    const int h = tile.h * p.tile_h + row % kHopperRows / p.tile_w,
              w = tile.w * p.tile_w + row % kHopperRows % p.tile_w;
    if (h < p.oh && w < p.ow) all(group, (tile.n * p.oh + h) * p.ow + w, n, sums);
  }
};

/// packed [part][out][segment][element], from weights of those strides.
template <class Way>
GRAPNEL_KERNEL(kBlockThreads)
pack_segments_kernel(StemShape p, Divisor segments, std::int64_t count, device::Global<ElementOf<Way>> packed,
                     device::Global<const float> w, std::int64_t stride_out, std::int64_t stride_in,
                     std::int64_t stride_r, std::int64_t stride_s) {
  device::after_previous();
  const std::int64_t i = element();
  if (i >= count) return;
  const int line = static_cast<int>(i) / kHopperDepth<Way>;
  const Tap tap = p.tap(line % segments, static_cast<int>(i) % kHopperDepth<Way>);
  const float value = tap.r < 0 ? 0
                                : device::load(w, line / segments * stride_out + tap.channel * stride_in +
                                                      tap.r * stride_r + tap.s * stride_s);
  store_parts<Way>(packed, i, count, device::Vector<float, 1>{{value}});
}

/// In floats, whatever the precision is by then.
inline std::int64_t stem_packed_size(const Conv2d& p) {
  const auto size = [&]<class Way>() {
    return p.k * stem_shape<Way>(p, kHopperRows).segments * Way::kParts * 32;
  };
  return std::max({size.template operator()<AsFp32>(), size.template operator()<AsTf32>(),
                   size.template operator()<AsBf16>()});
}

template <class Way>
void pack_stem(const char* name, const Conv2d& conv, ElementOf<Way>* packed, const float* w,
               const std::int64_t* strides) {
  const StemShape p = stem_shape<Way>(conv, kHopperRows);
  const std::int64_t count = conv.k * p.segments * p.depth;
  launch_each(name, count, pack_segments_kernel<Way>, p, p.segments, count, packed, w, strides[0], strides[1],
              strides[2], strides[3]);
}

/// Whether each row of a tile is a pixel.
inline bool stem_tiles_are_whole(const Conv2d& p) {
  const std::int64_t width = stem_tile_width(p, kHopperRows);
  return p.ow % width == 0 && p.oh % (kHopperRows / width) == 0;
}

/// Gives what run_product does.
template <class Way, class T, class Output>
int convolve_stem(const char* name, const Conv2d& conv, const T* x, const ElementOf<Way>* packed,
                  const Output& output) {
  const StemShape p = stem_shape<Way>(conv, kHopperRows);
  const LaidStem<Way> laid(name, conv, p, x);
  const std::int64_t packed_row = std::int64_t{p.segments} * p.depth;
  return run_hopper_product<Way>(
      name, {1, p.n * p.tiles_h * p.tiles_w * kHopperRows, static_cast<int>(conv.k), p.segments, 1},
      StemPatches<Way>{stem_segments<Way>(conv, p, laid.data()), p},
      [&](std::uint32_t together) {
        return matrix_rows<Way>(packed, conv.k, packed_row, packed_row, together);
      },
      StoreTiles<Output>{output, p, stem_tiles_are_whole(conv) ? output.moments : nullptr});
}

}  // namespace grapnel::kernels
