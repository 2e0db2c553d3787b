// Resize(int), CenterCrop, ToTensor and Normalize. The filter itself is in resize.cpp.
//
// A byte has 256 values, so ToTensor and Normalize are one table a channel, filled by torchvision's
// operations in torchvision's order: the same bits, and no division a pixel.
#include "grapnel/viz/transforms.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "grapnel/engine/error.h"

namespace grapnel::viz {
namespace {

/// Pixels: a picture of 1x16384 must not ask for gigabytes only because its shorter side is enlarged.
constexpr std::int64_t kLargest = std::int64_t{1} << 28;

void require_picture(const char* operation, const Image& image) {
  if (image.empty()) throw ShapeError(std::string(operation) + ": the picture is empty");
}

void require_size(const char* operation, int height, int width) {
  if (height < 1 || width < 1)
    throw ShapeError(std::string(operation) + ": got size " + std::to_string(height) + "x" +
                     std::to_string(width) + ", expected at least 1x1");
}

/// Where one axis of a crop starts in the picture; negative: so many black pixels come first.
int crop_start(int size, int crop) {
  if (crop > size) return -((crop - size) / 2);
  return static_cast<int>(std::nearbyint((size - crop) / 2.0));
}

/// 256 values of one channel.
using Levels = std::array<float, 256>;

/// ToTensor and Normalize of every byte, a table a channel.
std::array<Levels, 3> normalized_levels(const Preprocess& options) {
  std::array<Levels, 3> levels;
  for (std::size_t c = 0; c < 3; ++c)
    for (std::size_t value = 0; value < 256; ++value)
      levels[c][value] = (static_cast<float>(value) / 255.0f - options.mean[c]) / options.std[c];
  return levels;
}

Tensor to_planes(const Image& image, int channels, const std::array<Levels, 3>& levels) {
  Tensor out = Tensor::empty({1, channels, image.height(), image.width()}, DType::float32,
                             MemoryFormat::contiguous, Device::cpu());
  float* plane = out.data<float>();
  const std::size_t pixels = image.pixels().size() / static_cast<std::size_t>(image.channels());
  for (int c = 0; c < channels; ++c) {
    const Levels& level = levels[static_cast<std::size_t>(c)];
    const std::uint8_t* in = image.pixels().data() + (image.channels() == 3 ? c : 0);
    for (std::size_t i = 0; i < pixels; ++i, in += image.channels()) *plane++ = level[*in];
  }
  return out;
}

}  // namespace

Image resize_shorter_side(const Image& image, int size) {
  require_picture("resize_shorter_side", image);
  require_size("resize_shorter_side", size, size);
  const std::int64_t shorter = std::min(image.height(), image.width());
  const std::int64_t longer = std::max(image.height(), image.width());
  const std::int64_t other = size * longer / shorter;
  if (other > kLargest / size)
    throw ShapeError("resize_shorter_side: " + to_string(image) + " with the shorter side brought to " +
                     std::to_string(size) + " would have " + std::to_string(other) +
                     " pixels on the longer side; crop it before, or stretch it");
  return image.height() <= image.width() ? resize(image, size, static_cast<int>(other))
                                         : resize(image, static_cast<int>(other), size);
}

Image center_crop(const Image& image, int height, int width) {
  require_picture("center_crop", image);
  require_size("center_crop", height, width);
  const int top = crop_start(image.height(), height), left = crop_start(image.width(), width);
  const int first_row = std::max(0, top), first_column = std::max(0, left);
  const int rows = std::min(height, image.height()), columns = std::min(width, image.width());

  Image out(height, width, image.channels());
  for (int y = 0; y < rows; ++y)
    std::copy_n(image.row(first_row + y) + first_column * image.channels(), columns * image.channels(),
                out.row(first_row - top + y) + (first_column - left) * image.channels());
  return out;
}

Tensor to_tensor(const Image& image) {
  require_picture("to_tensor", image);
  std::array<Levels, 3> levels;
  for (int value = 0; value < 256; ++value)
    for (Levels& level : levels) level[static_cast<std::size_t>(value)] = static_cast<float>(value) / 255.0f;
  return to_planes(image, image.channels(), levels);
}

Tensor normalize(const Image& image, const Preprocess& options) {
  require_picture("normalize", image);
  return to_planes(image, 3, normalized_levels(options));
}

Tensor normalize(std::span<const Image> images, const Preprocess& options) {
  if (images.empty()) throw ShapeError("normalize: there is no picture");
  const int height = images[0].height(), width = images[0].width();
  const std::array<Levels, 3> levels = normalized_levels(options);
  Tensor out = Tensor::empty({static_cast<std::int64_t>(images.size()), 3, height, width}, DType::float32,
                             MemoryFormat::channels_last, Device::cpu());
  float* next = out.data<float>();
  for (const Image& image : images) {
    require_picture("normalize", image);
    if (image.channels() != 3 || image.height() != height || image.width() != width)
      throw ShapeError("normalize: got a picture of " + to_string(image) + " beside the first of " +
                       to_string(images[0]) + "; a batch holds RGB pictures of one size");
    const std::uint8_t* in = image.pixels().data();
    for (const std::uint8_t* end = in + image.pixels().size(); in != end; in += 3, next += 3)
      for (std::size_t c = 0; c < 3; ++c) next[c] = levels[c][in[c]];
  }
  return out;
}

Image preprocess_image(const Image& image, const Preprocess& options) {
  require_picture("preprocess", image);
  const Image resized = options.stretch ? resize(image, options.resize, options.resize)
                                        : resize_shorter_side(image, options.resize);
  return to_rgb(center_crop(resized, options.crop, options.crop));
}

Tensor preprocess(const Image& image, const Preprocess& options) {
  return normalize(preprocess_image(image, options), options);
}

}  // namespace grapnel::viz
