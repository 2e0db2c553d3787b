// Pictures, float maps, min-max and overlays.
#include "grapnel/viz/image.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "grapnel/engine/error.h"
#include "grapnel/viz/overlay.h"
#include "viz/expected.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

TEST_CASE("a picture checks its sizes") {
  CHECK_THROWS_AS(Image(2, 2, 4), ShapeError);
  CHECK_THROWS_AS(Image(-1, 2, 3), ShapeError);
  CHECK_THROWS_AS(Image(2, 2, 3, std::vector<std::uint8_t>(11)), ShapeError);
  CHECK(to_string(Image(853, 1280, 3)) == "853x1280 RGB");
  CHECK(to_rgb(Image(1, 2, 1, {7, 9})) == Image(1, 2, 3, {7, 7, 7, 9, 9, 9}));
}

TEST_CASE("maps and tensors") {
  const FloatMap map{2, 3, {1, 2, 3, 4, 5, 6}};
  CHECK(to_tensor(map).shape() == Shape{1, 1, 2, 3});
  CHECK(to_map(to_tensor(map)) == map);
  CHECK(to_map(Tensor::from<double>({1, 2, 3, 4, 5, 6}, {2, 3})) == map);
  CHECK_THROWS_AS(to_map(Tensor::zeros({2, 2, 3})), ShapeError);
  CHECK_THROWS_AS(to_map(Tensor::zeros({6})), ShapeError);
}

TEST_CASE("a map is enlarged as by PyTorch") {
  for (const auto& words : cases("map")) {
    const int h = std::stoi(words[0]), w = std::stoi(words[1]), oh = std::stoi(words[2]),
              ow = std::stoi(words[3]);
    const FloatMap out = resize(to_map(reals("map", {1, 1, h, w})), oh, ow);
    REQUIRE(out.values.size() == static_cast<std::size_t>(oh * ow));
    // A position is off by at most one rounding of a number up to the side, on slopes of at most 2; then four
    // products.
    const double tolerance = (2 * std::max(h, w) + 8) * std::numeric_limits<float>::epsilon();
    const std::size_t step = std::max<std::size_t>(1, out.values.size() / 16);
    for (std::size_t i = 0, k = 4; i < out.values.size(); i += step, ++k) {
      CAPTURE(i);
      REQUIRE(k < words.size());
      CHECK(std::abs(static_cast<double>(out.values[i]) - std::stod(words[k])) <= tolerance);
    }
  }
  CHECK_THROWS_AS(resize(FloatMap{}, 3, 3), ShapeError);
}

TEST_CASE("min-max reaches 0 and, but for its eps, 1") {
  const Heatmap heat = min_max({1, 3, {-1, 0, 3}});
  CHECK_FALSE(heat.flat);
  CHECK(heat.map.values == std::vector<float>{0.0f, 1 / (4 + 1e-7f), 4 / (4 + 1e-7f)});
}

TEST_CASE("a constant map becomes zeros with a flag, a broken one an error") {
  for (const float value : {0.0f, -2.5f, 1e30f}) {
    const Heatmap heat = min_max({2, 2, std::vector<float>(4, value)});
    CHECK(heat.flat);
    CHECK(heat.map.values == std::vector<float>(4, 0.0f));
  }
  CHECK(min_max({1, 2, {0, 1e-8f}}).flat);
  CHECK_THROWS_AS(min_max(FloatMap{}), ShapeError);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()})
    CHECK(contains(message_of<Error>([&] { min_max({1, 3, {0, bad, 1}}); }), "at element 1"));
  const float most = std::numeric_limits<float>::max();
  CHECK_THROWS_AS(min_max({1, 2, {-most, most}}), Error);
}

TEST_CASE("overlays are rounded half to even and saturated") {
  for (const auto& words : cases("overlay")) {
    const Blend blend{std::stod(words[0]), std::stod(words[1])};
    CAPTURE(words);
    CHECK(fnv(overlay(picture("picture", 20, 30), picture("heat", 20, 30), blend).pixels()) == words.back());
  }
  CHECK(overlay(Image(1, 3, 1, {1, 3, 255}), Image(1, 3, 1, {0, 0, 255}), {0.5, 0.5}) ==
        to_rgb(Image(1, 3, 1, {0, 2, 255})));
  CHECK_THROWS_AS(overlay(Image(1, 2, 3), Image(2, 1, 3)), ShapeError);
}

TEST_CASE("a map is resized to the picture, and a flat one is not painted") {
  const Image image = picture("picture", 6, 8);
  const Heatmap heat = min_max({2, 2, {0, 1, 2, 3}});
  CHECK(overlay(image, heat) == overlay(image, colorize(resize(heat.map, 6, 8))));
  CHECK(overlay(image, heat) != image);
  CHECK(overlay(image, min_max({2, 2, {5, 5, 5, 5}})) == image);
}
