// Flips and colours, the parts of augment.h without chance.
//
// Colours follow Pillow's ImageEnhance and its 8-bit HSV (src/libImaging/Blend.c, Convert.c), which is what
// torchvision runs on pictures: single-precision products, cut to 8 bits rather than rounded.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "grapnel/engine/error.h"
#include "grapnel/viz/augment.h"

namespace grapnel::viz {
namespace {

void require_rgb(const char* operation, const Image& image) {
  if (image.empty() || image.channels() != 3)
    throw ShapeError(std::string(operation) + ": got a picture of " + to_string(image) + ", expected RGB");
}

void require_factor(const char* operation, double factor) {
  if (!(factor >= 0 && std::isfinite(factor)))
    throw Error(std::string(operation) + ": got factor " + std::to_string(factor) +
                ", expected a number of at least 0");
}

/// Pillow's blend: `factor` of `value` and the rest of `base`.
std::uint8_t mix(int base, int value, float factor) {
  const float mixed = static_cast<float>(base) + factor * static_cast<float>(value - base);
  return static_cast<std::uint8_t>(std::clamp(mixed, 0.0f, 255.0f));
}

Image mix_with(Image image, int base, double factor) {
  std::array<std::uint8_t, 256> levels;
  for (std::size_t value = 0; value < levels.size(); ++value)
    levels[value] = mix(base, static_cast<int>(value), static_cast<float>(factor));
  for (std::uint8_t& value : image.pixels()) value = levels[value];
  return image;
}

/// ITU-R 601-2 luma in 16-bit fixed point.
int grey(const std::uint8_t* rgb) {
  return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + (1 << 15)) >> 16;
}

/// Calls change(pixel) for the three bytes of each.
template <class Change>
void for_each_pixel(Image& image, const Change& change) {
  std::uint8_t* pixel = image.pixels().data();
  for (const std::uint8_t* end = pixel + image.pixels().size(); pixel != end; pixel += 3) change(pixel);
}

/// Hue, saturation, value, each a byte.
using Hsv = std::array<std::uint8_t, 3>;

Hsv to_hsv(const std::uint8_t* rgb) {
  const std::uint8_t low = std::min({rgb[0], rgb[1], rgb[2]}), high = std::max({rgb[0], rgb[1], rgb[2]});
  if (low == high) return {0, 0, high};
  const float range = static_cast<float>(high - low);
  const auto below_high = [&](int c) { return static_cast<float>(high - rgb[c]) / range; };
  float hue;
  if (rgb[0] == high)
    hue = below_high(2) - below_high(1);
  else if (rgb[1] == high)
    hue = static_cast<float>(2.0 + below_high(0) - below_high(2));
  else
    hue = static_cast<float>(4.0 + below_high(1) - below_high(0));
  const double turns = hue / 6.0 + 1.0;
  hue = static_cast<float>(turns < 1 ? turns : turns - 1);
  return {static_cast<std::uint8_t>(hue * 255.0),
          static_cast<std::uint8_t>(range / static_cast<float>(high) * 255.0), high};
}

void to_rgb(const Hsv& hsv, std::uint8_t* rgb) {
  const auto [h, s, v] = hsv;
  const double sixths = h * 6.0 / 255.0;
  const int sector = static_cast<int>(sixths);
  const float part = static_cast<float>(sixths - sector), saturation = static_cast<float>(s / 255.0);
  const auto scaled = [value = v](double factor) { return static_cast<std::uint8_t>(value * factor + 0.5); };
  const std::uint8_t low = scaled(1.0 - saturation);
  const std::uint8_t falling = scaled(1.0 - saturation * part);
  const std::uint8_t rising = scaled(1.0 - saturation * (1.0 - part));
  const std::uint8_t table[6][3] = {{v, rising, low},  {falling, v, low}, {low, v, rising},
                                    {low, falling, v}, {rising, low, v},  {v, low, falling}};
  std::copy_n(table[sector % 6], 3, rgb);
}

}  // namespace

Image flip_horizontal(Image image) {
  require_rgb("flip_horizontal", image);
  for (int y = 0; y < image.height(); ++y)
    for (std::uint8_t *left = image.row(y), *right = left + image.row_bytes() - 3; left < right;
         left += 3, right -= 3)
      std::swap_ranges(left, left + 3, right);
  return image;
}

Image adjust_brightness(Image image, double factor) {
  require_rgb("adjust_brightness", image);
  require_factor("adjust_brightness", factor);
  return mix_with(std::move(image), 0, factor);
}

Image adjust_contrast(Image image, double factor) {
  require_rgb("adjust_contrast", image);
  require_factor("adjust_contrast", factor);
  std::int64_t sum = 0;
  for_each_pixel(image, [&](const std::uint8_t* pixel) { sum += grey(pixel); });
  const double mean = static_cast<double>(sum) / static_cast<double>(image.pixels().size() / 3);
  return mix_with(std::move(image), static_cast<int>(mean + 0.5), factor);
}

Image adjust_saturation(Image image, double factor) {
  require_rgb("adjust_saturation", image);
  require_factor("adjust_saturation", factor);
  for_each_pixel(image, [share = static_cast<float>(factor)](std::uint8_t* pixel) {
    const int base = grey(pixel);
    for (int c = 0; c < 3; ++c) pixel[c] = mix(base, pixel[c], share);
  });
  return image;
}

Image adjust_hue(Image image, double turn) {
  require_rgb("adjust_hue", image);
  if (!(turn >= -0.5 && turn <= 0.5))
    throw Error("adjust_hue: got a turn of " + std::to_string(turn) + ", expected -0.5..0.5");
  const auto step = static_cast<std::uint8_t>(static_cast<int>(turn * 255));
  for_each_pixel(image, [step](std::uint8_t* pixel) {
    Hsv hsv = to_hsv(pixel);
    hsv[0] = static_cast<std::uint8_t>(hsv[0] + step);
    to_rgb(hsv, pixel);
  });
  return image;
}

}  // namespace grapnel::viz
