// Colour maps: 256 RGB colours each.
//
// Jet is OpenCV's, in closed form (matplotlib's jet is a different curve). Viridis, inferno and turbo are
// matplotlib's tables (colormap_tables.inc).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "grapnel/viz/image.h"

namespace grapnel::viz {

enum class Colormap { jet, viridis, inferno, turbo, gray };

/// 256 colours, RGB.
using ColorTable = std::array<std::array<std::uint8_t, 3>, 256>;

const ColorTable& color_table(Colormap map);

/// "jet", "viridis", ...
std::string_view name(Colormap map);
/// Throws NameError listing the names.
Colormap parse_colormap(std::string_view name);

/// Paints values in 0..1: colour number floor(255 * value), as the usual `np.uint8(255 * mask)`. Values
/// outside are clamped; NaN takes colour 0.
Image colorize(const FloatMap& map, Colormap colormap = Colormap::jet);

}  // namespace grapnel::viz
