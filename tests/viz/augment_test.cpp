// Colours and borders are torchvision's, bit for bit; what is random is what was asked for.
#include "grapnel/viz/augment.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "grapnel/engine/error.h"
#include "grapnel/viz/transforms.h"
#include "viz/expected.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

Image augmented(const Image& image, int size, const Augment& options, std::uint64_t seed = 1) {
  Generator generator(seed);
  return augment(image, size, options, generator);
}

/// Red tells the column, green the row.
Image coordinates(int height, int width) {
  Image image(height, width, 3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      image.row(y)[3 * x] = static_cast<std::uint8_t>(x);
      image.row(y)[3 * x + 1] = static_cast<std::uint8_t>(y);
    }
  return image;
}

struct Moments {
  double sum = 0, squares = 0;
  int count = 0;
  void add(double value) {
    sum += value;
    squares += value * value;
    ++count;
  }
  double mean() const { return sum / count; }
  double deviation() const { return std::sqrt(squares / count - mean() * mean()); }
};

}  // namespace

TEST_CASE("colours are torchvision's, bit for bit") {
  const std::pair<const char*, Image (*)(Image, double)> kinds[] = {{"brightness", adjust_brightness},
                                                                    {"contrast", adjust_contrast},
                                                                    {"saturation", adjust_saturation},
                                                                    {"hue", adjust_hue}};
  for (const auto& [kind, adjust] : kinds)
    for (const auto& words : cases(kind)) {
      CAPTURE(kind);
      CAPTURE(words);
      CHECK(fnv(adjust(picture("colors", 61, 83), std::stod(words[0])).pixels()) == words[1]);
    }
}

TEST_CASE("a factor of 1 changes nothing") {
  const Image image = picture("same", 20, 30);
  CHECK(adjust_brightness(image, 1) == image);
  CHECK(adjust_contrast(image, 1) == image);
  CHECK(adjust_saturation(image, 1) == image);
}

TEST_CASE("a flip mirrors every row") {
  for (const int width : {1, 2, 7, 10}) {
    const Image image = picture("flip", 5, width);
    const Image flipped = flip_horizontal(image);
    for (int y = 0; y < 5; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < 3; ++c) CHECK(flipped.at(y, x, c) == image.at(y, width - 1 - x, c));
    CHECK(flip_horizontal(flipped) == image);
  }
}

TEST_CASE("with everything off a picture is resized and cropped as for evaluation") {
  for (const auto& [height, width] : {std::pair{24, 24}, {40, 31}, {9, 13}}) {
    const Image image = picture("off", height, width);
    CHECK(augmented(image, 24, {}) == preprocess_image(image, {.resize = 24, .crop = 24}));
  }
  const Image square = picture("off", 24, 24);
  CHECK(augmented(square, 24, {}) == square);
  CHECK(augmented(square, 24, {.resized_crop = true, .area = {1, 1}, .ratio = {1, 1}}) == square);
  const Image grey = picture("grey", 24, 24, 1);
  CHECK(augmented(grey, 24, {}) == to_rgb(grey));
}

TEST_CASE("the generator decides, and nothing else") {
  const Image image = picture("seed", 40, 50);
  const Augment everything{.resized_crop = true,
                           .pad = 3,
                           .pad_reflect = true,
                           .flip = 0.5,
                           .brightness = 0.4,
                           .contrast = 0.4,
                           .saturation = 0.4,
                           .hue = 0.1,
                           .erase = 0.5};
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Image out = augmented(image, 16, everything, seed);
    CHECK(to_string(out) == "16x16 RGB");
    CHECK(augmented(image, 16, everything, seed) == out);
    seen.insert(fnv(out.pixels()));
  }
  CHECK(seen.size() == 50);
}

TEST_CASE("a border and a crop give each of torchvision's shifts") {
  const Image image = picture("colors", 12, 12);
  for (const bool reflect : {false, true}) {
    std::set<std::string> seen;
    for (std::uint64_t seed = 0; seed < 1500; ++seed)
      seen.insert(fnv(augmented(image, 12, {.pad = 4, .pad_reflect = reflect}, seed).pixels()));
    CHECK(seen.size() == 81);
    for (const auto& words : cases("pad"))
      if ((words[0] == "reflect") == reflect) CHECK(seen.count(words[3]) == 1);
  }
}

TEST_CASE("flips and colours come as often and as strong as asked for") {
  const Image image = picture("often", 8, 8), flipped = flip_horizontal(image);
  int flips = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const Image out = augmented(image, 8, {.flip = 0.25}, seed);
    CHECK((out == image || out == flipped));
    flips += out == flipped;
  }
  CHECK(flips / 2000.0 == doctest::Approx(0.25).epsilon(0.1));

  // Brightness of a flat picture is its factor.
  const Image flat(1, 1, 3, {100, 100, 100});
  Moments level;
  for (std::uint64_t seed = 0; seed < 2000; ++seed)
    level.add(augmented(flat, 1, {.brightness = 0.5}, seed).at(0, 0));
  CHECK(level.mean() == doctest::Approx(99.5).epsilon(0.01));
  CHECK(level.deviation() == doctest::Approx(100 / std::sqrt(12.0)).epsilon(0.03));
}

TEST_CASE("erasing turns one rectangle into noise") {
  const Image image(40, 60, 3, std::vector<std::uint8_t>(40 * 60 * 3, 0));
  int erased = 0;
  Moments share, level, middle;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const Image out = augmented(image, 40, {.erase = 0.25}, seed);
    int top = 40, bottom = -1, left = 40, right = -1, changed = 0;
    for (int y = 0; y < 40; ++y)
      for (int x = 0; x < 40; ++x) {
        const int sum = out.at(y, x, 0) + out.at(y, x, 1) + out.at(y, x, 2);
        if (sum == 0) continue;  // in noise once in 2^24 pixels
        top = std::min(top, y), bottom = std::max(bottom, y);
        left = std::min(left, x), right = std::max(right, x);
        level.add(sum / 3.0);
        ++changed;
      }
    if (changed == 0) continue;
    ++erased;
    const int height = bottom - top + 1, width = right - left + 1;
    CHECK(changed == height * width);
    // Rounding moves each side by half a pixel at most.
    CHECK((height + 0.5) * (width + 0.5) >= 0.02 * 1600);
    CHECK((height - 0.5) * (width - 0.5) <= 0.33 * 1600);
    CHECK((height + 0.5) / (width - 0.5) >= 0.3);
    CHECK((width + 0.5) / (height - 0.5) >= 0.3);
    share.add(changed / 1600.0);
    middle.add((left + right) / 2.0);
  }
  CHECK(erased / 2000.0 == doctest::Approx(0.25).epsilon(0.1));
  CHECK(share.mean() == doctest::Approx(0.175).epsilon(0.1));
  CHECK(middle.mean() == doctest::Approx(19.5).epsilon(0.05));
  CHECK(level.mean() == doctest::Approx(127.5).epsilon(0.01));
}

TEST_CASE("pictures exchange a rectangle, and only those of one size") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const std::vector<Image> before{picture("a", 9, 14), picture("b", 9, 14), picture("c", 9, 14)};
    std::vector<Image> after = before;
    Generator generator(seed);
    const double share = cut_and_mix(after, generator);
    CHECK(share >= 0);
    CHECK(share <= 1);
    CHECK(after[1] == before[1]);
    int exchanged = 0;
    for (int y = 0; y < 9; ++y)
      for (int x = 0; x < 14; ++x) {
        const auto same = [&](const Image& a, const Image& b) {
          return a.at(y, x, 0) == b.at(y, x, 0) && a.at(y, x, 1) == b.at(y, x, 1) &&
                 a.at(y, x, 2) == b.at(y, x, 2);
        };
        const bool kept = same(after[0], before[0]);
        CHECK(same(after[0], before[kept ? 0 : 2]));
        CHECK(same(after[2], before[kept ? 2 : 0]));
        exchanged += !kept;
      }
    CHECK(exchanged == doctest::Approx(share * 9 * 14));
  }
  std::vector<Image> none, two{picture("a", 4, 4), picture("b", 4, 5)};
  Generator generator(1);
  CHECK(cut_and_mix(none, generator) == 0);
  CHECK(message_of<ShapeError>([&] { cut_and_mix(two, generator); }) ==
        "cut_and_mix: pictures of 4x4 RGB and 4x5 RGB, expected one size");
}

TEST_CASE("random crops have torchvision's distribution") {
  for (const auto& words : cases("random_crop")) {
    CAPTURE(words);
    const int height = std::stoi(words[0]), width = std::stoi(words[1]);
    const Image image = coordinates(height, width);
    const Augment options{.resized_crop = true, .area = {std::stod(words[2]), 1}};
    Moments area, ratio, left;
    for (std::uint64_t seed = 0; seed < 3000; ++seed) {
      const Image out = augmented(image, 16, options, seed);
      // From the middle of the first of 16 pixels to that of the last.
      const double w = (out.at(8, 15, 0) - out.at(8, 0, 0)) / 15.0 * 16;
      const double h = (out.at(15, 8, 1) - out.at(0, 8, 1)) / 15.0 * 16;
      area.add(w * h / (height * width));
      ratio.add(std::log(w / h));
      left.add(out.at(8, 0, 0) - w / 32 + 0.5);
    }
    CHECK(area.mean() == doctest::Approx(std::stod(words[3])).epsilon(0.03));
    CHECK(area.deviation() == doctest::Approx(std::stod(words[4])).epsilon(0.05));
    CHECK(std::abs(ratio.mean() - std::stod(words[5])) < 0.015);
    CHECK(ratio.deviation() == doctest::Approx(std::stod(words[6])).epsilon(0.06));
    CHECK(left.mean() == doctest::Approx(std::stod(words[7])).epsilon(0.05));
  }
}

TEST_CASE("where no crop fits, the middle is taken") {
  const Augment square{.resized_crop = true, .area = {1, 1}, .ratio = {1, 1}};
  const Image wide = picture("wide", 20, 45), tall = picture("tall", 45, 20);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    CHECK(augmented(wide, 20, square, seed) == center_crop(wide, 20, 20));
    CHECK(augmented(tall, 20, square, seed) == center_crop(tall, 20, 20));
  }
  const Image line = picture("line", 1, 300);
  CHECK(to_string(augmented(line, 8, {.resized_crop = true})) == "8x8 RGB");
}

TEST_CASE("wrong options and pictures are refused") {
  const Image image = picture("colors", 8, 8);
  const auto refusal = [&](const Augment& options) {
    return message_of<Error>([&] { augmented(image, 8, options); });
  };
  const std::string area = "augment: the crop's area must be two shares 0 < low <= high <= 1";
  CHECK(refusal({.area = {0, 1}}) == area);
  CHECK(refusal({.area = {0.6, 0.5}}) == area);
  CHECK(refusal({.area = {0.5, 1.1}}) == area);
  CHECK(refusal({.ratio = {0, 1}}) == "augment: the crop's ratio must be 0 < low <= high");
  CHECK(refusal({.pad = 8}) == "augment: the border must be 0 or more and narrower than the picture");
  CHECK(refusal({.flip = 1.5}) == "augment: the probability of a flip must be in 0..1");
  CHECK(refusal({.contrast = -1}) == "augment: brightness, contrast and saturation must be 0 or more");
  CHECK(refusal({.hue = 0.6}) == "augment: the turn of the hue must be in 0..0.5");
  CHECK(refusal({.erase = -0.1}) == "augment: the probability of erasing must be in 0..1");
  CHECK(message_of<ShapeError>([&] { augmented(image, 0, {}); }) ==
        "augment: got size 0, expected at least 1");
  CHECK(message_of<ShapeError>([&] { augmented(Image(), 8, {}); }) == "augment: the picture is empty");
  CHECK(message_of<ShapeError>([&] { adjust_hue(picture("colors", 8, 8, 1), 0); }) ==
        "adjust_hue: got a picture of 8x8 grey, expected RGB");
  CHECK(message_of<Error>([&] { adjust_contrast(image, -0.5); }) ==
        "adjust_contrast: got factor -0.500000, expected a number of at least 0");
  CHECK(message_of<Error>([&] { adjust_hue(image, 0.7); }) ==
        "adjust_hue: got a turn of 0.700000, expected -0.5..0.5");
}

TEST_CASE("a batch is normalised as each of its pictures, channels last") {
  const std::vector<Image> images{picture("a", 6, 7), picture("b", 6, 7)};
  const Tensor batch = normalize(images);
  CHECK(batch.shape() == Shape{2, 3, 6, 7});
  CHECK(batch.is_contiguous(MemoryFormat::channels_last));
  std::vector<float> expected = normalize(images[0]).to_vector<float>();
  const std::vector<float> second = normalize(images[1]).to_vector<float>();
  expected.insert(expected.end(), second.begin(), second.end());
  CHECK(batch.to_vector<float>() == expected);

  CHECK(message_of<ShapeError>([] { normalize(std::vector<Image>()); }) == "normalize: there is no picture");
  CHECK(message_of<ShapeError>([&] {
          normalize(std::vector<Image>{images[0], picture("c", 7, 6)});
        }) ==
        "normalize: got a picture of 7x6 RGB beside the first of 6x7 RGB; a batch holds RGB pictures of one "
        "size");
}
