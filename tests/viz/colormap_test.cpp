#include "grapnel/viz/colormap.h"

#include <doctest/doctest.h>

#include <cmath>

#include "grapnel/engine/error.h"
#include "viz/expected.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {
using Color = std::array<std::uint8_t, 3>;
}

TEST_CASE("the tables are OpenCV's closed-form jet and matplotlib's maps") {
  for (const auto& words : cases("colormap")) {
    const ColorTable& table = color_table(parse_colormap(words[0]));
    CAPTURE(words[0]);
    CHECK(fnv({table.front().data(), sizeof table}) == words[1]);
    CHECK(name(parse_colormap(words[0])) == words[0]);
  }
}

TEST_CASE("jet goes from blue through green to red") {
  const ColorTable& jet = color_table(Colormap::jet);
  CHECK(jet[0] == Color{0, 0, 128});
  CHECK(jet[32] == Color{0, 0, 255});
  CHECK(jet[96] == Color{2, 255, 254});
  CHECK(jet[223] == Color{255, 0, 0});
  CHECK(jet[255] == Color{128, 0, 0});
}

TEST_CASE("values take the colour below them, and nothing lies outside") {
  const Image image = colorize({1, 7, {0, 0.5f, 1, 254.99f / 255, -3, 7, std::nanf("")}}, Colormap::gray);
  CHECK(image == to_rgb(Image(1, 7, 1, {0, 127, 255, 254, 0, 255, 0})));
}

TEST_CASE("an unknown colour map is answered with the known ones") {
  CHECK(message_of<NameError>([] { parse_colormap("hot"); }) ==
        "there is no colour map \"hot\"; there are jet, viridis, inferno, turbo, gray");
}
