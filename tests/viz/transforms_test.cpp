// Bit-exactness with Pillow and torchvision.
#include "grapnel/viz/transforms.h"

#include <doctest/doctest.h>

#include <numeric>

#include "grapnel/engine/error.h"
#include "viz/expected.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

std::vector<int> numbers(const std::vector<std::string>& words) {
  std::vector<int> result;
  for (std::size_t i = 0; i + 1 < words.size(); ++i) result.push_back(std::stoi(words[i]));
  return result;
}

Image all_levels() {
  Image image(16, 16, 3);
  for (std::size_t i = 0; i < image.pixels().size(); ++i)
    image.pixels()[i] = static_cast<std::uint8_t>(i / 3);
  return image;
}

}  // namespace

TEST_CASE("resize is Pillow's, bit for bit") {
  for (const auto& words : cases("resize")) {
    const std::vector<int> n = numbers(words);
    const Image out = resize(picture("resize", n[0], n[1], n[2]), n[3], n[4]);
    CAPTURE(words);
    CHECK(to_string(out) == to_string(Image(n[3], n[4], n[2])));
    CHECK(fnv(out.pixels()) == words.back());
  }
}

TEST_CASE("white stays white at any size") {
  const Image white(37, 41, 3, std::vector<std::uint8_t>(37 * 41 * 3, 255));
  for (const int size : {1, 5, 36, 38, 100})
    CHECK(resize(white, size, size) == Image(size, size, 3, std::vector<std::uint8_t>(size * size * 3, 255)));
}

TEST_CASE("the shorter side is resized as by torchvision") {
  for (const auto& words : cases("shorter")) {
    const std::vector<int> n = numbers(words);
    const Image out = resize_shorter_side(picture("shorter", n[0], n[1]), n[2]);
    CAPTURE(words);
    CHECK(out.height() == n[3]);
    CHECK(out.width() == n[4]);
    CHECK(fnv(out.pixels()) == words.back());
  }
}

TEST_CASE("centre crop is torchvision's, with a black border where the picture is smaller") {
  for (const auto& words : cases("crop")) {
    const std::vector<int> n = numbers(words);
    CAPTURE(words);
    CHECK(fnv(center_crop(picture("crop", n[0], n[1]), n[2], n[3]).pixels()) == words.back());
  }
}

TEST_CASE("the whole chain gives torchvision's floats") {
  for (const auto& words : cases("preprocess")) {
    const std::vector<int> n = numbers(words);
    Preprocess options;
    options.resize = n[3];
    options.crop = n[4];
    options.stretch = n[5] != 0;
    const Image image = picture("preprocess", n[0], n[1], n[2]);
    CAPTURE(words);
    const Tensor out = preprocess(image, options);
    CHECK(out.shape() == Shape{1, 3, n[4], n[4]});
    CHECK(fnv(out) == words.back());
    CHECK(fnv(normalize(preprocess_image(image, options), options)) == words.back());
  }
  CHECK(fnv(to_tensor(all_levels())) == cases("to_tensor")[0][0]);
  CHECK(fnv(normalize(all_levels())) == cases("normalize")[0][0]);
}

TEST_CASE("a grey picture has one plane as a tensor and three as an input") {
  const Image grey = picture("grey", 3, 4, 1);
  CHECK(to_tensor(grey).shape() == Shape{1, 1, 3, 4});
  CHECK(fnv(normalize(grey)) == fnv(normalize(to_rgb(grey))));
}

TEST_CASE("pictures and sizes that make no sense are refused") {
  const Image image = picture("small", 4, 4);
  CHECK_THROWS_AS(resize(Image(), 3, 3), ShapeError);
  CHECK_THROWS_AS(resize(image, 0, 3), ShapeError);
  CHECK_THROWS_AS(resize_shorter_side(image, 0), ShapeError);
  CHECK_THROWS_AS(center_crop(image, 3, -1), ShapeError);
  CHECK_THROWS_AS(preprocess(Image()), ShapeError);
  // 16384 x 1 brought to a width of 224 would have 3.7 million rows.
  CHECK_THROWS_AS(resize_shorter_side(Image(16384, 1, 3), 224), ShapeError);
}
