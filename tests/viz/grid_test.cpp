// Grids against torchvision.utils.make_grid and save_image.
#include "grapnel/viz/grid.h"

#include <doctest/doctest.h>

#include "grapnel/engine/error.h"
#include "viz/expected.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

struct Case {
  Tensor batch;
  GridOptions options;
};

Case read_case(const std::vector<std::string>& words) {
  const auto number = [&](std::size_t i) { return std::stoi(words[i]); };
  const GridScale scale = words[7] == "none"   ? GridScale::none
                          : words[7] == "each" ? GridScale::each
                                               : GridScale::together;
  return {reals("grid", {number(0), number(1), number(2), number(3)}, 3, 1),
          {number(4), number(5), std::stod(words[6]), scale}};
}

}  // namespace

TEST_CASE("make_grid is torchvision's, value for value") {
  for (const auto& words : cases("grid")) {
    CAPTURE(words);
    const Case c = read_case(words);
    const Tensor sheet = make_grid(c.batch, c.options);
    CHECK(sheet.shape() == Shape{std::stoi(words[8]), std::stoi(words[9]), std::stoi(words[10])});
    CHECK(fnv(sheet) == words.back());
  }
}

TEST_CASE("to_image rounds as save_image does") {
  for (const auto& words : cases("saved")) {
    CAPTURE(words);
    const Case c = read_case(words);
    CHECK(fnv(to_image(make_grid(c.batch, c.options)).pixels()) == words.back());
  }
  CHECK_THROWS_AS(to_image(Tensor::zeros({2, 4, 4})), ShapeError);
  CHECK_THROWS_AS(to_image(Tensor::zeros({4, 4})), ShapeError);
}

TEST_CASE("feature maps lie as in make_grid") {
  const Tensor maps = reals("grid", {1, 64, 11, 12});
  GridOptions each;
  each.scale = GridScale::each;
  const Image expected = to_image(make_grid(reals("grid", {64, 1, 11, 12}), each));
  CHECK(feature_grid(maps) == expected);
  CHECK(feature_grid(reals("grid", {64, 11, 12})) == expected);
  CHECK(expected.height() == 8 * 13 + 2);
  CHECK(expected.width() == 8 * 14 + 2);
}

TEST_CASE("feature maps in colour, the border in the colour of its value") {
  FeatureGridOptions options;
  options.colormap = Colormap::viridis;
  const Image sheet = feature_grid(Tensor::from<float>({0, 1, 5, 5}, {1, 2, 1, 2}), options);
  const ColorTable& colors = color_table(Colormap::viridis);
  const auto at = [&](int y, int x) {
    return std::array{sheet.at(y, x, 0), sheet.at(y, x, 1), sheet.at(y, x, 2)};
  };
  CHECK(at(0, 0) == colors[0]);
  CHECK(at(2, 2) == colors[0]);
  CHECK(at(2, 3) == colors[255]);
  CHECK(at(2, 6) == colors[0]);  // a constant map has nothing to show
}

TEST_CASE("one feature map is framed, too") {
  const Image sheet = feature_grid(Tensor::zeros({1, 1, 4, 5}));
  CHECK(sheet.height() == 8);
  CHECK(sheet.width() == 9);
}

TEST_CASE("shapes and options that make no sense are refused") {
  CHECK_THROWS_AS(make_grid(Tensor::zeros({3, 4, 4})), ShapeError);
  CHECK_THROWS_AS(make_grid(Tensor::zeros({0, 3, 4, 4})), ShapeError);
  GridOptions options;
  options.per_row = 0;
  CHECK_THROWS_AS(make_grid(Tensor::zeros({1, 3, 4, 4}), options), ShapeError);
  CHECK_THROWS_AS(feature_grid(Tensor::zeros({2, 3, 4, 4})), ShapeError);
}
