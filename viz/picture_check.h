// Looks through a picture file before the decoder sees it.
//
// stb_image trusts its input more than we do: it reports success for a JPEG that ends early, decodes as many
// progressive scans as a file cares to repeat, ignores PNG checksums, and leaves memory unset where a palette
// or a component is missing. Everything of that kind is refused here, from the structure of the file alone,
// before anything is allocated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "grapnel/viz/codec.h"

namespace grapnel::viz {

struct PictureInfo {
  int height = 0, width = 0;
  std::size_t working_bytes = 0;  ///< what a decoder may need at most for an honest file of this kind
  bool palette = false;           ///< PNG whose pixels are indices
};

bool is_png(std::span<const std::uint8_t> bytes);
bool is_jpeg(std::span<const std::uint8_t> bytes);

/// Walks all chunks. Throws FileError that opens with `name`.
PictureInfo check_png(std::span<const std::uint8_t> bytes, const std::string& name,
                      const ImageLimits& limits);
/// Walks all markers and scans. Throws FileError that opens with `name`.
PictureInfo check_jpeg(std::span<const std::uint8_t> bytes, const std::string& name,
                       const ImageLimits& limits);

/// The file with its palette filled up with black to 256 colours, so that every index a pixel
/// can hold means something (Pillow does the same). `bytes` passed check_png.
std::vector<std::uint8_t> with_full_palette(std::span<const std::uint8_t> bytes);

/// Throws FileError if the size is zero or beyond the limits. `bytes_per_pixel` is that of the decoded file.
void check_size(const std::string& name, std::int64_t height, std::int64_t width,
                std::int64_t bytes_per_pixel, const ImageLimits& limits);

/// Big-endian integers; `at` plus their size lies inside.
inline std::uint32_t read_u16(std::span<const std::uint8_t> bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes[at] << 8 | bytes[at + 1]);
}
inline std::uint32_t read_u32(std::span<const std::uint8_t> bytes, std::size_t at) {
  return read_u16(bytes, at) << 16 | read_u16(bytes, at + 2);
}

}  // namespace grapnel::viz
