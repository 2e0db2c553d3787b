// Decoding against Pillow; limits; damaged files; writing.
#include "grapnel/viz/codec.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "grapnel/engine/error.h"
#include "grapnel/viz/file.h"
#include "viz/expected.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

std::vector<std::uint8_t> golden_bytes(const std::string& name) {
  return read_file(golden_path(name), 1 << 20);
}

std::string refusal(std::span<const std::uint8_t> bytes, const ImageLimits& limits = {}) {
  return message_of<FileError>([&] { decode_image(bytes, "a.png", limits); });
}

int largest_difference(const Image& a, const Image& b) {
  int largest = 0;
  for (std::size_t i = 0; i < a.pixels().size(); ++i)
    largest = std::max(largest, std::abs(a.pixels()[i] - b.pixels()[i]));
  return largest;
}

/// Where `part` first stands in the file.
std::size_t find(const std::vector<std::uint8_t>& bytes, std::span<const std::uint8_t> part) {
  return static_cast<std::size_t>(std::search(bytes.begin(), bytes.end(), part.begin(), part.end()) -
                                  bytes.begin());
}

/// Inverse transforms may differ by one level (IEEE 1180). Blue is Y + 1.772 Cb: a level in both, and
/// rounding.
constexpr int kJpegTolerance = 4;

constexpr std::array<std::uint8_t, 2> kFrame{0xff, 0xc0};

}  // namespace

TEST_CASE("every kind of PNG gives Pillow's pixels, JPEGs come close") {
  for (const auto& words : cases("picture")) {
    const std::string& name = words[0];
    CAPTURE(name);
    const Image image = read_image(golden_path(name));
    CHECK(image.height() == std::stoi(words[1]));
    CHECK(image.width() == std::stoi(words[2]));
    REQUIRE(image.channels() == 3);
    if (words[3] == "0") {
      CHECK(fnv(image.pixels()) == words[4]);
    } else {
      const Image expected = read_image(golden_path(name + ".png"));
      CHECK(fnv(expected.pixels()) == words[4]);
      REQUIRE(image.pixels().size() == expected.pixels().size());
      CHECK(largest_difference(image, expected) <= kJpegTolerance);
    }
  }
}

TEST_CASE("a file that ends early is refused, wherever it ends") {
  for (const char* name : {"color2_depth8.png", "color3_depth4.png", "interlaced.png", "photo_420.jpg",
                           "photo_progressive.jpg"}) {
    CAPTURE(name);
    const std::vector<std::uint8_t> bytes = golden_bytes(name);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      CAPTURE(size);
      CHECK_THROWS_AS(decode_image(std::span(bytes).first(size)), FileError);
    }
  }
}

TEST_CASE("a flipped bit anywhere in a PNG is noticed") {
  std::vector<std::uint8_t> bytes = golden_bytes("color3_depth8.png");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    CAPTURE(i);
    bytes[i] ^= 1 << i % 8;
    CHECK_THROWS_AS(decode_image(bytes), FileError);
    bytes[i] ^= 1 << i % 8;
  }
}

TEST_CASE("a damaged JPEG gives a picture of the size it states, or an error") {
  const std::vector<std::uint8_t> original = golden_bytes("photo_restarts.jpg");
  int refused = 0, decoded = 0;
  for (std::size_t i = 0; i < original.size(); ++i) {
    std::vector<std::uint8_t> bytes = original;
    bytes[i] = static_cast<std::uint8_t>(hash(name_hash("damage"), static_cast<std::uint32_t>(i)));
    try {
      const Image image = decode_image(bytes);
      REQUIRE(image.pixels().size() == static_cast<std::size_t>(image.height()) * image.row_bytes());
      ++decoded;
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(refused > 0);
  CHECK(decoded > 0);
}

TEST_CASE("limits are looked at before decoding, and named") {
  const std::vector<std::uint8_t> png = golden_bytes("color2_depth8.png");  // 7x9
  ImageLimits limits;
  limits.side = 8;
  CHECK(refusal(png, limits) == "a.png: has 7x9 pixels; the limit is 8 a side");
  limits = {};
  limits.decoded_bytes = 7 * 9 * 3 - 1;
  CHECK(contains(refusal(png, limits), "would take 189 bytes; the limit is 188"));
  limits.decoded_bytes = 7 * 9 * 3;
  CHECK(refusal(png, limits).empty());
  limits.file_bytes = png.size() - 1;
  CHECK(contains(refusal(png, limits), "the limit is"));
  limits = {};
  limits.jpeg_scans = 3;
  CHECK(contains(refusal(golden_bytes("photo_progressive.jpg"), limits), "more than 3 scans"));
}

TEST_CASE("a small file that claims to be a large picture is refused without decoding it") {
  std::vector<std::uint8_t> jpeg = golden_bytes("photo_420.jpg");
  const std::size_t frame = find(jpeg, kFrame);
  for (std::size_t i : {5, 7}) jpeg[frame + i] = 12000 >> 8;
  CHECK(contains(refusal(jpeg), "cannot hold"));
}

TEST_CASE("JPEG kinds that are not read are named") {
  std::vector<std::uint8_t> jpeg = golden_bytes("photo_420.jpg");
  const std::size_t frame = find(jpeg, kFrame);
  jpeg[frame + 1] = 0xc9;
  CHECK(contains(refusal(jpeg), "arithmetic-coded"));
  jpeg[frame + 1] = 0xc0;
  jpeg[frame + 4] = 12;
  CHECK(contains(refusal(jpeg), "12 bits a sample"));

  std::vector<std::uint8_t> cmyk = golden_bytes("photo_cmyk.jpg");
  const std::array<std::uint8_t, 5> adobe{'A', 'd', 'o', 'b', 'e'};
  cmyk[find(cmyk, adobe)] = 'a';
  CHECK(contains(refusal(cmyk), "Adobe's marker"));
}

TEST_CASE("other formats are named") {
  const auto refusal_of = [](std::string_view text) {
    return refusal({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  };
  CHECK(refusal_of("GIF89a") == "a.png: is a GIF picture; only PNG and JPEG are read");
  CHECK(contains(refusal_of("RIFF\1\2\3\4WEBPVP8 "), "WebP"));
  CHECK(contains(refusal_of(""), "is empty"));
  CHECK(contains(refusal_of("hello"), "no PNG or JPEG"));
}

TEST_CASE("a file that is missing or no file says so") {
  const TemporaryFolder folder;
  const auto refusal_of = [](const std::filesystem::path& path) {
    return message_of<FileError>([&] { read_image(path); });
  };
  CHECK(contains(refusal_of(folder / "none.png"), "none.png: there is no such file"));
  CHECK(contains(refusal_of(folder / ""), "is not a regular file"));
}

TEST_CASE("PNG keeps every pixel, grey or RGB, JPEG nearly") {
  const TemporaryFolder folder;
  for (const int channels : {1, 3}) {
    const Image image = picture("written", 21, 34, channels);
    write_image(folder / "a.PNG", image);
    CHECK(read_image(folder / "a.PNG") == to_rgb(image));
  }
  // One colour has no coefficient but the mean, which is off by less than one level; then as above.
  Image color(16, 16, 3);
  for (std::size_t i = 0; i < color.pixels().size(); ++i)
    color.pixels()[i] = std::array<std::uint8_t, 3>{200, 90, 40}[i % 3];
  write_image(folder / "a.jpeg", color);
  CHECK(largest_difference(read_image(folder / "a.jpeg"), color) <= kJpegTolerance);
  CHECK(folder.files() == 2);
}

TEST_CASE("writing replaces a file whole, and leaves nothing behind where it cannot") {
  const TemporaryFolder folder;
  write_image(folder / "a.png", picture("first", 4, 4));
  const Image second = picture("second", 5, 5);
  write_image(folder / "a.png", second);
  CHECK(read_image(folder / "a.png") == second);
  CHECK(folder.files() == 1);

  std::filesystem::create_directory(folder / "b.png");
  CHECK_THROWS_AS(write_image(folder / "b.png", second), FileError);
  CHECK(folder.files() == 2);
  CHECK_THROWS_AS(write_image(folder / "none/a.png", second), FileError);
  CHECK(contains(message_of<FileError>([&] { write_image(folder / "a.bmp", second); }), "not as \".bmp\""));
  CHECK_THROWS_AS(write_image(folder / "c.png", Image()), ShapeError);
  CHECK_THROWS_AS(encode_jpeg(second, 0), Error);
}

TEST_CASE("JPEG tables that would lead the decoder outside its own are refused") {
  const std::vector<std::uint8_t> jpeg = golden_bytes("photo_420.jpg");
  const std::size_t table = find(jpeg, std::array<std::uint8_t, 2>{0xff, 0xc4}) + 4;
  std::vector<std::uint8_t> bytes = jpeg;
  for (std::size_t i = 1; i <= 16; ++i) bytes[table + i] = 255;
  CHECK(contains(refusal(bytes), "damaged Huffman table"));
  bytes = jpeg;
  bytes[table + 17] = 16;
  CHECK(contains(refusal(bytes), "sizes beyond 15 bits"));
  bytes = jpeg;
  bytes[table] = 0x03;
  CHECK(contains(refusal(bytes), "tables are missing"));
}
