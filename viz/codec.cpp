// Which format a file has, what it may cost, and who decodes it: picture_check.h looks first, stb.h decodes.
#include "grapnel/viz/codec.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "grapnel/engine/error.h"
#include "grapnel/viz/file.h"
#include "grapnel/viz/picture_check.h"
#include "grapnel/viz/stb.h"

namespace grapnel::viz {
namespace {

/// What stb_image is built for (stb.cpp), and all that JPEG can say.
constexpr int kLargestSide = 65535;

/// The format's name for a few that people try, for the message.
std::string_view guess_format(std::span<const std::uint8_t> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              std::min<std::size_t>(bytes.size(), 16));
  const auto has = [&](std::size_t at, std::string_view magic) {
    return text.size() >= at + magic.size() && text.substr(at, magic.size()) == magic;
  };
  if (has(0, "RIFF") && has(8, "WEBP")) return "a WebP picture";
  if (has(0, "GIF8")) return "a GIF picture";
  if (has(0, "BM")) return "a BMP picture";
  if (has(0, std::string_view("II*\0", 4)) || has(0, std::string_view("MM\0*", 4))) return "a TIFF picture";
  if (has(4, "ftypavif")) return "an AVIF picture";
  if (has(4, "ftyphei") || has(4, "ftypmif1")) return "a HEIC picture";
  return bytes.empty() ? "empty" : "no PNG or JPEG picture";
}

std::string extension_of(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

}  // namespace

void check_size(const std::string& name, std::int64_t height, std::int64_t width,
                std::int64_t bytes_per_pixel, const ImageLimits& limits) {
  const std::string size = std::to_string(height) + "x" + std::to_string(width);
  if (height < 1 || width < 1) throw FileError(name + ": says it has " + size + " pixels");
  const int side = std::min(limits.side, kLargestSide);
  if (height > side || width > side)
    throw FileError(name + ": has " + size + " pixels; the limit is " + std::to_string(side) + " a side");
  if (static_cast<std::uint64_t>(height * width * bytes_per_pixel) > limits.decoded_bytes)
    throw FileError(name + ": " + size + " pixels would take " +
                    std::to_string(height * width * bytes_per_pixel) + " bytes; the limit is " +
                    std::to_string(limits.decoded_bytes));
}

Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name, const ImageLimits& limits) {
  if (bytes.size() > limits.file_bytes)
    throw FileError(name + ": holds " + std::to_string(bytes.size()) + " bytes, the limit is " +
                    std::to_string(limits.file_bytes));
  if (is_jpeg(bytes)) return stb::decode(bytes, name, check_jpeg(bytes, name, limits).working_bytes);
  if (is_png(bytes)) {
    const PictureInfo info = check_png(bytes, name, limits);
    if (info.palette) return stb::decode(with_full_palette(bytes), name, info.working_bytes);
    return stb::decode(bytes, name, info.working_bytes);
  }
  throw FileError(name + ": is " + std::string(guess_format(bytes)) + "; only PNG and JPEG are read");
}

Image read_image(const std::filesystem::path& path, const ImageLimits& limits) {
  return decode_image(read_file(path, limits.file_bytes), path.string(), limits);
}

std::vector<std::uint8_t> encode_png(const Image& image) {
  return stb::encode_png(image);
}

std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality) {
  if (quality < 1 || quality > 100)
    throw Error("encode_jpeg: got quality " + std::to_string(quality) + ", expected 1..100");
  return stb::encode_jpeg(image, quality);
}

void write_image(const std::filesystem::path& path, const Image& image) {
  const std::string extension = extension_of(path);
  if (extension == ".png") return write_file(path, encode_png(image));
  if (extension == ".jpg" || extension == ".jpeg") return write_file(path, encode_jpeg(image));
  throw FileError(path.string() + ": pictures are written as .png, .jpg or .jpeg, not as \"" + extension +
                  "\"");
}

}  // namespace grapnel::viz
