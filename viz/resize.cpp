// Pillow's bilinear resize, bit for bit.
//
// Each output pixel is a weighted mean of input pixels under a triangle as wide as the scale factor (never
// narrower than one input pixel on each side), so that shrinking does not alias. The filter is separable: one
// pass along the rows and one along the columns, the result between them rounded to 8 bits, so that their
// order shows in the last bit. Weights are fixed point with 22 fraction bits: 8 bits of pixel, and 2 left
// against overflow. An axis that keeps its size is skipped. Source of the arithmetic: Pillow,
// src/libImaging/Resample.c.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "grapnel/engine/error.h"
#include "grapnel/viz/transforms.h"

namespace grapnel::viz {
namespace {

constexpr int kFractionBits = 32 - 8 - 2;
constexpr std::int32_t kHalf = 1 << (kFractionBits - 1);

std::uint8_t round_to_byte(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

/// For each output position: the first input it reads, how many, and their weights (room for `taps` each).
struct Windows {
  struct Range {
    int first, count;
  };
  int taps = 0;
  std::vector<Range> ranges;
  std::vector<std::int32_t> weights;

  const std::int32_t* weights_of(int i) const {
    return weights.data() + static_cast<std::size_t>(i) * static_cast<std::size_t>(taps);
  }
};

Windows make_windows(int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double support = std::max(1.0, scale);
  const double inverse = 1.0 / support;
  Windows windows;
  windows.taps = static_cast<int>(std::ceil(support)) * 2 + 1;
  windows.ranges.resize(static_cast<std::size_t>(out_size));
  windows.weights.resize(static_cast<std::size_t>(out_size) * static_cast<std::size_t>(windows.taps));

  std::vector<double> triangle(static_cast<std::size_t>(windows.taps));
  std::int32_t* weights = windows.weights.data();
  for (Windows::Range& range : windows.ranges) {
    const double center = (static_cast<double>(&range - windows.ranges.data()) + 0.5) * scale;
    range.first = std::max(0, static_cast<int>(center - support + 0.5));
    range.count = std::min(in_size, static_cast<int>(center + support + 0.5)) - range.first;
    double total = 0;
    for (int i = 0; i < range.count; ++i) {
      const double distance = std::abs((i + range.first - center + 0.5) * inverse);
      total += triangle[static_cast<std::size_t>(i)] = std::max(0.0, 1.0 - distance);
    }
    for (int i = 0; i < range.count; ++i) {
      const double weight = total != 0 ? triangle[static_cast<std::size_t>(i)] / total : 0.0;
      weights[i] = static_cast<std::int32_t>(0.5 + weight * (1 << kFractionBits));
    }
    weights += windows.taps;
  }
  return windows;
}

template <int channels>
void resize_row(const std::uint8_t* in, std::uint8_t* out, const Windows& windows) {
  const std::int32_t* weights = windows.weights.data();
  for (const Windows::Range& range : windows.ranges) {
    std::int32_t sums[channels];
    std::fill_n(sums, channels, kHalf);
    const std::uint8_t* pixel = in + range.first * channels;
    for (int i = 0; i < range.count; ++i, pixel += channels)
      for (int c = 0; c < channels; ++c) sums[c] += pixel[c] * weights[i];
    for (int c = 0; c < channels; ++c) *out++ = round_to_byte(sums[c]);
    weights += windows.taps;
  }
}

Image resize_width(const Image& image, int width) {
  const Windows windows = make_windows(image.width(), width);
  Image out(image.height(), width, image.channels());
  const auto row = image.channels() == 3 ? resize_row<3> : resize_row<1>;
  for (int y = 0; y < image.height(); ++y) row(image.row(y), out.row(y), windows);
  return out;
}

Image resize_height(const Image& image, int height) {
  const Windows windows = make_windows(image.height(), height);
  Image out(height, image.width(), image.channels());
  std::vector<std::int32_t> sums(image.row_bytes());
  for (int y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const Windows::Range range = windows.ranges[static_cast<std::size_t>(y)];
    for (int i = 0; i < range.count; ++i) {
      const std::uint8_t* in = image.row(range.first + i);
      const std::int32_t weight = windows.weights_of(y)[i];
      for (std::size_t x = 0; x < sums.size(); ++x) sums[x] += in[x] * weight;
    }
    std::transform(sums.begin(), sums.end(), out.row(y), round_to_byte);
  }
  return out;
}

/// Pillow 13 begins with the columns where the height shrinks by much more than the width, as for portraits
/// taller than 2:1. Its predecessors always begin with the rows, and differ from it by one level in some
/// pixels of such pictures.
bool columns_first(const Image& image, int height, int width) {
  return height < image.height() &&
         image.height() - height > 2 * (static_cast<std::int64_t>(image.width()) - width);
}

}  // namespace

Image resize(const Image& image, int height, int width) {
  if (image.empty() || height < 1 || width < 1)
    throw ShapeError("resize: cannot bring a picture of " + to_string(image) + " to " +
                     std::to_string(height) + "x" + std::to_string(width));
  if (height == image.height()) return width == image.width() ? image : resize_width(image, width);
  if (width == image.width()) return resize_height(image, height);
  return columns_first(image, height, width) ? resize_width(resize_height(image, height), width)
                                             : resize_height(resize_width(image, width), height);
}

}  // namespace grapnel::viz
