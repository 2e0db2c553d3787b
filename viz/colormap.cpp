// The five tables, made at compile time, and painting with them.
#include "grapnel/viz/colormap.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "grapnel/engine/error.h"

namespace grapnel::viz {
namespace {

#include "grapnel/viz/colormap_tables.inc"

constexpr std::uint8_t from_hex(char digit) {
  return static_cast<std::uint8_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

template <std::size_t length>
constexpr ColorTable from_hex(const char (&digits)[length]) {
  static_assert(length == 2 * 3 * 256 + 1);
  ColorTable table{};
  for (std::size_t i = 0; i < 3 * 256; ++i)
    table[i / 3][i % 3] =
        static_cast<std::uint8_t>(from_hex(digits[2 * i]) << 4 | from_hex(digits[2 * i + 1]));
  return table;
}

/// clamp(1.5 - |4x - k|, 0, 1) * 255 for x = i/255, k = 3, 2, 1 for red, green, blue; rounded half to even,
/// exactly. (OpenCV's printed table differs in one entry: the blue of colour 159 is 1 there, 2 here.)
constexpr ColorTable jet() {
  ColorTable table{};
  for (int i = 0; i < 256; ++i)
    for (int c = 0; c < 3; ++c) {
      const int distance = 4 * i - 255 * (3 - c);
      const int doubled = std::clamp(765 - 2 * (distance < 0 ? -distance : distance), 0, 510);
      const int floor = doubled / 2;
      table[static_cast<std::size_t>(i)][static_cast<std::size_t>(c)] =
          static_cast<std::uint8_t>(floor + (doubled % 2 & floor % 2));
    }
  return table;
}

constexpr ColorTable gray() {
  ColorTable table{};
  for (std::size_t i = 0; i < 256; ++i) table[i].fill(static_cast<std::uint8_t>(i));
  return table;
}

struct Entry {
  Colormap map;
  std::string_view name;
  ColorTable table;
};

constexpr Entry kMaps[] = {{Colormap::jet, "jet", jet()},
                           {Colormap::viridis, "viridis", from_hex(kViridis)},
                           {Colormap::inferno, "inferno", from_hex(kInferno)},
                           {Colormap::turbo, "turbo", from_hex(kTurbo)},
                           {Colormap::gray, "gray", gray()}};

const Entry& entry(Colormap map) {
  return *std::find_if(std::begin(kMaps), std::end(kMaps), [&](const Entry& e) { return e.map == map; });
}

}  // namespace

const ColorTable& color_table(Colormap map) {
  return entry(map).table;
}

std::string_view name(Colormap map) {
  return entry(map).name;
}

Colormap parse_colormap(std::string_view name) {
  std::string known;
  for (const Entry& e : kMaps) {
    if (e.name == name) return e.map;
    known += (known.empty() ? "" : ", ") + std::string(e.name);
  }
  throw NameError("there is no colour map \"" + std::string(name) + "\"; there are " + known);
}

Image colorize(const FloatMap& map, Colormap colormap) {
  const ColorTable& table = color_table(colormap);
  Image image(map.height, map.width, 3);
  std::uint8_t* out = image.pixels().data();
  for (float value : map.values) {
    const float level = value > 0 ? std::min(value, 1.0f) * 255.0f : 0.0f;
    out = std::copy_n(table[static_cast<std::size_t>(level)].begin(), 3, out);
  }
  return image;
}

}  // namespace grapnel::viz
