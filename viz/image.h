// The two things the viz room passes around: an 8-bit picture and a map of one float a pixel.
//
// Both own their memory, row by row without padding. Pictures are RGB everywhere; there is no BGR in this
// library. Read next: codec.h (files), transforms.h (picture -> network input), overlay.h (map -> picture).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "grapnel/engine/tensor.h"

namespace grapnel::viz {

/// Interleaved 8-bit pixels: channels is 1 (grey) or 3 (RGB).
class Image {
 public:
  Image() = default;
  /// Black. Throws ShapeError for a negative size or another number of channels.
  Image(int height, int width, int channels);
  /// Takes `pixels`, (height, width, channels) row by row. Throws ShapeError if their number does not fit.
  Image(int height, int width, int channels, std::vector<std::uint8_t> pixels);

  int height() const { return height_; }
  int width() const { return width_; }
  int channels() const { return channels_; }
  bool empty() const { return pixels_.empty(); }
  std::size_t row_bytes() const {
    return static_cast<std::size_t>(width_) * static_cast<std::size_t>(channels_);
  }

  std::span<std::uint8_t> pixels() { return pixels_; }
  std::span<const std::uint8_t> pixels() const { return pixels_; }
  /// First byte of a row; not checked.
  std::uint8_t* row(int y) { return pixels_.data() + static_cast<std::size_t>(y) * row_bytes(); }
  const std::uint8_t* row(int y) const { return pixels_.data() + static_cast<std::size_t>(y) * row_bytes(); }
  /// One channel of one pixel; not checked.
  std::uint8_t at(int y, int x, int channel = 0) const { return row(y)[x * channels_ + channel]; }

  bool operator==(const Image&) const = default;

 private:
  int height_ = 0, width_ = 0, channels_ = 3;
  std::vector<std::uint8_t> pixels_;
};

/// "853x1280 RGB" (height first), for messages.
std::string to_string(const Image& image);

/// Grey becomes three equal channels; RGB stays as it is.
Image to_rgb(const Image& image);

/// (H,W) floats row by row, such as a heat map at the size of the layer or of the input.
struct FloatMap {
  int height = 0, width = 0;
  std::vector<float> values;  ///< height * width of them

  float at(int y, int x) const {
    return values[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) +
                  static_cast<std::size_t>(x)];
  }
  bool operator==(const FloatMap&) const = default;
};

/// A tensor of shape (H,W), (1,H,W) or (1,1,H,W) as a map, converted to float32. Throws ShapeError for any
/// other.
FloatMap to_map(const Tensor& tensor);
/// The map as a float32 tensor (1,1,H,W).
Tensor to_tensor(const FloatMap& map);

/// Bilinear with align_corners=false, as torch.nn.functional.interpolate. Throws ShapeError for an empty map
/// or size.
FloatMap resize(const FloatMap& map, int height, int width);

/// A map in 0..1 that is ready to be painted.
struct Heatmap {
  FloatMap map;
  /// The map was (nearly) constant: its range was at most 1e-7, so there is nothing to see. It is never
  /// painted.
  bool flat = false;
};

/// (x - min) / (max - min + 1e-7), computed in float32 as pytorch-grad-cam does. A constant map gives zeros,
/// flagged flat. Throws ShapeError for an empty map and Error for one that holds NaN or infinity or whose
/// range overflows.
Heatmap min_max(FloatMap map);

}  // namespace grapnel::viz
