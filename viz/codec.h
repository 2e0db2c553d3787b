// Picture files: PNG and JPEG to and from an Image.
//
// What a file holds is decided by its content, never by its name. A file is checked before it is decoded
// (picture_scan.h) and decoded under a memory budget, so a hostile one costs one FileError, not the program.
//   - alpha is dropped without compositing, grey becomes three equal channels, a palette is looked up: as
//     `PIL.Image.open(f).convert("RGB")` does.
//   - 16 bits a channel keep their upper 8 bits, as in Pillow; 16-bit grey, which Pillow clips at 255, is
//   refused.
//   - CMYK JPEGs are converted if they carry Adobe's marker, as nearly all do; refused otherwise.
//   - EXIF orientation is not applied, as in `PIL.Image.open` and therefore in torchvision: a picture that a
//   viewer shows
//     upright can come out turned. Bake the rotation in before (`exiftran`, `ImageOps.exif_transpose`) if it
//     matters.
// PNG pixels equal Pillow's; JPEG decoders differ from each other by a few levels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "grapnel/viz/image.h"

namespace grapnel::viz {

/// What a picture may cost. A file beyond any of these is refused before it is decoded.
struct ImageLimits {
  std::size_t file_bytes = std::size_t{64} << 20;
  int side = 16384;  ///< width and height; at most 65,535 whatever is said here
  std::size_t decoded_bytes = std::size_t{512} << 20;  ///< width * height * channels * bytes a channel
  int jpeg_scans = 100;                                ///< passes of a progressive JPEG
};

/// Reads a PNG or JPEG file as RGB. Throws FileError naming the file and the reason.
Image read_image(const std::filesystem::path& path, const ImageLimits& limits = {});

/// The same from memory; `name` stands for the file in messages.
Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name = "picture",
                   const ImageLimits& limits = {});

/// Writes .png, .jpg or .jpeg, by the name's extension. The file appears whole or not at all. Throws
/// FileError.
void write_image(const std::filesystem::path& path, const Image& image);

std::vector<std::uint8_t> encode_png(const Image& image);
/// Baseline JPEG; quality 1..100.
std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality = 92);

}  // namespace grapnel::viz
