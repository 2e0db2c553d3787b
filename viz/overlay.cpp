// Blending is done in double, as NumPy does with Python's weights, and rounded once.
#include "grapnel/viz/overlay.h"

#include <algorithm>
#include <cmath>

#include "grapnel/engine/error.h"

namespace grapnel::viz {

Image overlay(const Image& picture, const Image& heat, const Blend& blend) {
  if (picture.height() != heat.height() || picture.width() != heat.width())
    throw ShapeError("overlay: the picture is " + to_string(picture) + ", the heat map " + to_string(heat) +
                     "; bring them to one size first");
  Image out = to_rgb(picture);
  const Image colors = to_rgb(heat);
  const auto mix = [&](std::uint8_t below, std::uint8_t above) {
    const double sum = above * blend.heat + below * blend.image;
    return static_cast<std::uint8_t>(std::clamp(std::nearbyint(sum), 0.0, 255.0));
  };
  std::transform(out.pixels().begin(), out.pixels().end(), colors.pixels().begin(), out.pixels().begin(),
                 mix);
  return out;
}

Image overlay(const Image& picture, const Heatmap& heat, Colormap colormap, const Blend& blend) {
  if (heat.flat) return to_rgb(picture);
  return overlay(picture, colorize(resize(heat.map, picture.height(), picture.width()), colormap), blend);
}

}  // namespace grapnel::viz
