// What is drawn, in which order, and the crops. Flips and colours themselves are in adjust.cpp.
#include "grapnel/viz/augment.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "grapnel/engine/error.h"
#include "grapnel/viz/transforms.h"

namespace grapnel::viz {
namespace {

double uniform(Generator& generator, double low, double high) {
  return low + (high - low) * generator.uniform();
}

/// 0 .. count - 1, evenly enough: count is far below 2^32.
int below(Generator& generator, int count) {
  return static_cast<int>((std::uint64_t{generator.bits()} * static_cast<std::uint64_t>(count)) >> 32);
}

struct Rectangle {
  int top, left, height, width;
};

Image cut(const Image& image, const Rectangle& part) {
  Image out(part.height, part.width, image.channels());
  for (int y = 0; y < part.height; ++y)
    std::copy_n(image.row(part.top + y) + part.left * image.channels(), out.row_bytes(), out.row(y));
  return out;
}

/// The largest central part whose ratio is allowed.
Rectangle central_part(int height, int width, const Interval& ratio) {
  const double own = static_cast<double>(width) / height;
  int h = height, w = width;
  if (own < ratio.low) h = static_cast<int>(std::nearbyint(width / ratio.low));
  if (own > ratio.high) w = static_cast<int>(std::nearbyint(height * ratio.high));
  h = std::clamp(h, 1, height);
  w = std::clamp(w, 1, width);
  return {(height - h) / 2, (width - w) / 2, h, w};
}

/// As torchvision's RandomResizedCrop.get_params draws it: ten tries, as not every area and ratio fit
/// together.
std::optional<Rectangle> random_part(int height, int width, const Interval& share, const Interval& shape,
                                     Generator& generator) {
  constexpr int kTries = 10;
  const double area = static_cast<double>(height) * width;
  for (int i = 0; i < kTries; ++i) {
    const double target = area * uniform(generator, share.low, share.high);
    const double ratio = std::exp(uniform(generator, std::log(shape.low), std::log(shape.high)));
    const double w = std::nearbyint(std::sqrt(target * ratio)), h = std::nearbyint(std::sqrt(target / ratio));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    const int rows = static_cast<int>(h), columns = static_cast<int>(w);
    const int top = below(generator, height - rows + 1), left = below(generator, width - columns + 1);
    return Rectangle{top, left, rows, columns};
  }
  return std::nullopt;
}

/// Pads by `pad`, then crops at (top, left) of the padded picture to its own size.
Image shift(const Image& image, int pad, bool reflect, int top, int left) {
  const auto source = [reflect](int at, int size) {
    if (at >= 0 && at < size) return at;
    if (!reflect) return -1;
    return at < 0 ? -at : 2 * (size - 1) - at;
  };
  Image out(image.height(), image.width(), image.channels());
  for (int y = 0; y < image.height(); ++y) {
    const int from_row = source(y + top - pad, image.height());
    if (from_row < 0) continue;
    std::uint8_t* to = out.row(y);
    for (int x = 0; x < image.width(); ++x, to += image.channels()) {
      const int from = source(x + left - pad, image.width());
      if (from >= 0) std::copy_n(image.row(from_row) + from * image.channels(), image.channels(), to);
    }
  }
  return out;
}

Image jitter(Image image, const Augment& options, Generator& generator) {
  std::array<int, 4> order;
  std::iota(order.begin(), order.end(), 0);
  for (int i = 3; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(below(generator, i + 1))]);
  const auto factor = [&](double range) { return uniform(generator, std::max(0.0, 1 - range), 1 + range); };
  for (const int which : order) {
    if (which == 0 && options.brightness > 0)
      image = adjust_brightness(std::move(image), factor(options.brightness));
    if (which == 1 && options.contrast > 0)
      image = adjust_contrast(std::move(image), factor(options.contrast));
    if (which == 2 && options.saturation > 0)
      image = adjust_saturation(std::move(image), factor(options.saturation));
    if (which == 3 && options.hue > 0)
      image = adjust_hue(std::move(image), uniform(generator, -options.hue, options.hue));
  }
  return image;
}

/// Turns a rectangle into noise.
void erase(Image& image, Generator& generator) {
  constexpr Interval kShare{0.02, 0.33}, kShape{0.3, 1 / 0.3};
  const auto part = random_part(image.height(), image.width(), kShare, kShape, generator);
  if (!part) return;
  for (int y = part->top; y < part->top + part->height; ++y) {
    std::uint8_t* from = image.row(y) + part->left * image.channels();
    std::generate_n(from, part->width * image.channels(),
                    [&] { return static_cast<std::uint8_t>(generator.bits() >> 24); });
  }
}

Image to_size(const Image& image, int size, const Augment& options, Generator& generator) {
  if (!options.resized_crop) return center_crop(resize_shorter_side(image, size), size, size);
  const auto part = random_part(image.height(), image.width(), options.area, options.ratio, generator);
  return resize(cut(image, part ? *part : central_part(image.height(), image.width(), options.ratio)), size,
                size);
}

}  // namespace

void check_augment(const Augment& options, int size) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw Error(std::string("augment: ") + what);
  };
  if (size < 1) throw ShapeError("augment: got size " + std::to_string(size) + ", expected at least 1");
  const auto [low, high] = options.area;
  require(low > 0 && low <= high && high <= 1, "the crop's area must be two shares 0 < low <= high <= 1");
  require(
      options.ratio.low > 0 && options.ratio.low <= options.ratio.high && std::isfinite(options.ratio.high),
      "the crop's ratio must be 0 < low <= high");
  require(options.pad >= 0 && options.pad < size,
          "the border must be 0 or more and narrower than the picture");
  require(options.flip >= 0 && options.flip <= 1, "the probability of a flip must be in 0..1");
  for (const double range : {options.brightness, options.contrast, options.saturation})
    require(range >= 0 && std::isfinite(range), "brightness, contrast and saturation must be 0 or more");
  require(options.hue >= 0 && options.hue <= 0.5, "the turn of the hue must be in 0..0.5");
  require(options.erase >= 0 && options.erase <= 1, "the probability of erasing must be in 0..1");
}

Image augment(const Image& image, int size, const Augment& options, Generator& generator) {
  check_augment(options, size);
  if (image.empty()) throw ShapeError("augment: the picture is empty");
  Image out = to_size(image, size, options, generator);
  if (out.channels() == 1) out = to_rgb(out);
  if (options.pad > 0) {
    const int top = below(generator, 2 * options.pad + 1), left = below(generator, 2 * options.pad + 1);
    out = shift(out, options.pad, options.pad_reflect, top, left);
  }
  if (options.flip > 0 && generator.uniform() < options.flip) out = flip_horizontal(std::move(out));
  out = jitter(std::move(out), options, generator);
  if (options.erase > 0 && generator.uniform() < options.erase) erase(out, generator);
  return out;
}

double cut_and_mix(std::vector<Image>& images, Generator& generator) {
  if (images.empty()) return 0;
  const int height = images[0].height(), width = images[0].width(), channels = images[0].channels();
  for (const Image& image : images)
    if (to_string(image) != to_string(images[0]))
      throw ShapeError("cut_and_mix: pictures of " + to_string(images[0]) + " and " + to_string(image) +
                       ", expected one size");
  const double side = std::sqrt(generator.uniform());
  const int rows = static_cast<int>(side * height), columns = static_cast<int>(side * width);
  const int middle_y = below(generator, height), middle_x = below(generator, width);
  const int top = std::max(middle_y - rows / 2, 0), bottom = std::min(middle_y - rows / 2 + rows, height);
  const int left = std::max(middle_x - columns / 2, 0),
            right = std::min(middle_x - columns / 2 + columns, width);
  for (std::size_t i = 0, j = images.size() - 1; i < j; ++i, --j)
    for (int y = top; y < bottom; ++y)
      std::swap_ranges(images[i].row(y) + left * channels, images[i].row(y) + right * channels,
                       images[j].row(y) + left * channels);
  return static_cast<double>(bottom - top) * (right - left) / (static_cast<double>(height) * width);
}

}  // namespace grapnel::viz
