// Pictures and float maps: checks, conversions to and from tensors, min-max.
#include "grapnel/viz/image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "grapnel/engine/error.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"

namespace grapnel::viz {
namespace {

std::size_t byte_count(int height, int width, int channels) {
  if (height < 0 || width < 0 || (channels != 1 && channels != 3))
    throw ShapeError("Image: got height " + std::to_string(height) + ", width " + std::to_string(width) +
                     ", " + std::to_string(channels) +
                     " channels; expected sizes of at least 0 and 1 or 3 channels");
  return static_cast<std::size_t>(height) * static_cast<std::size_t>(width) *
         static_cast<std::size_t>(channels);
}

}  // namespace

Image::Image(int height, int width, int channels)
    : height_(height), width_(width), channels_(channels), pixels_(byte_count(height, width, channels)) {}

Image::Image(int height, int width, int channels, std::vector<std::uint8_t> pixels)
    : height_(height), width_(width), channels_(channels), pixels_(std::move(pixels)) {
  if (pixels_.size() != byte_count(height, width, channels))
    throw ShapeError("Image: got " + std::to_string(pixels_.size()) + " bytes for " + to_string(*this));
}

std::string to_string(const Image& image) {
  return std::to_string(image.height()) + "x" + std::to_string(image.width()) +
         (image.channels() == 1 ? " grey" : " RGB");
}

Image to_rgb(const Image& image) {
  if (image.channels() == 3) return image;
  Image rgb(image.height(), image.width(), 3);
  std::uint8_t* out = rgb.pixels().data();
  for (std::uint8_t value : image.pixels()) out = std::fill_n(out, 3, value);
  return rgb;
}

FloatMap to_map(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  const std::size_t rank = shape.size();
  const bool is_map =
      rank >= 2 && rank <= 4 && std::all_of(shape.begin(), shape.end() - 2, [](auto n) { return n == 1; });
  if (!is_map ||
      std::any_of(shape.begin(), shape.end(), [](auto n) { return n > std::numeric_limits<int>::max(); }))
    throw ShapeError("to_map: got " + to_string(shape) + ", expected (H,W), (1,H,W) or (1,1,H,W)");
  return {static_cast<int>(shape[rank - 2]), static_cast<int>(shape[rank - 1]), tensor.to_vector<float>()};
}

Tensor to_tensor(const FloatMap& map) {
  return Tensor::from(std::span<const float>(map.values), {1, 1, map.height, map.width}, Device::cpu());
}

FloatMap resize(const FloatMap& map, int height, int width) {
  if (map.values.empty() || height < 1 || width < 1)
    throw ShapeError("resize: cannot bring a map of " + std::to_string(map.height) + "x" +
                     std::to_string(map.width) + " to " + std::to_string(height) + "x" +
                     std::to_string(width));
  if (height == map.height && width == map.width) return map;
  const NoGrad guard;
  return to_map(interpolate(to_tensor(map), height, width, Resample::bilinear));
}

Heatmap min_max(FloatMap map) {
  if (map.values.empty()) throw ShapeError("min_max: the map is empty");
  // Several values side by side: one after the other would wait for each comparison.
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> low, high, invalid{};
  low.fill(map.values[0]);
  high.fill(map.values[0]);
  for (std::size_t i = 0; i < map.values.size(); i += kLanes)
    for (std::size_t lane = 0, count = std::min(kLanes, map.values.size() - i); lane < count; ++lane) {
      const float value = map.values[i + lane];
      low[lane] = value < low[lane] ? value : low[lane];
      high[lane] = value > high[lane] ? value : high[lane];
      invalid[lane] += value - value;  // zero, but for NaN and infinity
    }
  if (std::any_of(invalid.begin(), invalid.end(), [](float sum) { return sum != 0; }))
    for (std::size_t i = 0; i < map.values.size(); ++i)
      if (!std::isfinite(map.values[i]))
        throw Error("min_max: the map holds " + std::to_string(map.values[i]) + " at element " +
                    std::to_string(i) +
                    "; look for NaN or infinity in the picture, the weights or the gradient");

  constexpr float kEps = 1e-7f;
  const float minimum = *std::min_element(low.begin(), low.end());
  const float maximum = *std::max_element(high.begin(), high.end()), range = maximum - minimum;
  if (!std::isfinite(range))
    throw Error("min_max: the map's range, " + std::to_string(minimum) + " to " + std::to_string(maximum) +
                ", overflows");
  Heatmap result{std::move(map), range <= kEps};
  for (float& value : result.map.values) value = (value - minimum) / (range + kEps);
  return result;
}

}  // namespace grapnel::viz
