// PNG: chunks, checksums and the header (W3C PNG specification, sections 5 and 11).
#include <algorithm>
#include <array>
#include <string_view>

#include "grapnel/engine/error.h"
#include "grapnel/viz/picture_check.h"

namespace grapnel::viz {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::array<std::uint8_t, 8> kSignature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr std::size_t kPaletteBytes = 256 * 3;
/// No deflate stream expands further than 1032 times.
constexpr std::size_t kLargestRatio = 1032;

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0u);
    table[i] = value;
  }
  return table;
}

std::uint32_t crc32(Bytes bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = 0xffffffffu;
  for (std::uint8_t byte : bytes) crc = kTable[(crc ^ byte) & 0xff] ^ crc >> 8;
  return ~crc;
}

struct Chunk {
  std::string_view type;
  Bytes data;
};

/// The chunk at `at`, which moves behind it. Throws if it is not whole or its checksum is wrong.
Chunk next_chunk(Bytes file, std::size_t& at, const std::string& name) {
  const auto where = [&] { return " at byte " + std::to_string(at); };
  if (file.size() - at < 12) throw FileError(name + ": the PNG file ends early," + where());
  const std::size_t length = read_u32(file, at);
  if (length > file.size() - at - 12)
    throw FileError(name + ": the PNG chunk" + where() + " ends beyond the file");
  const Bytes type_and_data = file.subspan(at + 4, length + 4);
  if (crc32(type_and_data) != read_u32(file, at + 8 + length))
    throw FileError(name + ": the PNG chunk" + where() + " has a wrong checksum; the file is damaged");
  at += length + 12;
  return {{reinterpret_cast<const char*>(type_and_data.data()), 4}, type_and_data.subspan(4)};
}

struct Header {
  std::size_t height, width, depth, color, channels;
};

Header read_header(const Chunk& chunk, const std::string& name, const ImageLimits& limits) {
  if (chunk.type != "IHDR" || chunk.data.size() != 13)
    throw FileError(name + ": a PNG file opens with an IHDR chunk of 13 bytes; this one does not");
  const Bytes data = chunk.data;
  const Header header{read_u32(data, 4), read_u32(data, 0), data[8], data[9],
                      data[9] == 2   ? 3u
                      : data[9] == 4 ? 2u
                      : data[9] == 6 ? 4u
                                     : 1u};

  const bool known_color = header.color <= 6 && header.color != 1 && header.color != 5;
  const bool low_depth = header.depth == 1 || header.depth == 2 || header.depth == 4;
  const bool known_depth = header.depth == 8 || (low_depth && (header.color == 0 || header.color == 3)) ||
                           (header.depth == 16 && header.color != 3);
  if (!known_color || !known_depth)
    throw FileError(name + ": PNG colour type " + std::to_string(header.color) + " with " +
                    std::to_string(header.depth) + " bits a sample does not exist");
  if (header.depth == 16 && header.color == 0)
    throw FileError(name +
                    ": is a 16-bit grey PNG, which has no agreed 8-bit form (Pillow clips it at 255); "
                    "scale it to 8 bits first");
  if (data[10] != 0 || data[11] != 0 || data[12] > 1)
    throw FileError(name + ": unknown PNG compression, filter or interlace method");
  const std::size_t decoded_channels = header.color == 3 ? 4 : header.channels;
  check_size(name, static_cast<std::int64_t>(header.height), static_cast<std::int64_t>(header.width),
             static_cast<std::int64_t>(decoded_channels * std::max<std::size_t>(1, header.depth / 8)),
             limits);
  return header;
}

}  // namespace

bool is_png(Bytes bytes) {
  return bytes.size() >= kSignature.size() && std::equal(kSignature.begin(), kSignature.end(), bytes.begin());
}

PictureInfo check_png(Bytes bytes, const std::string& name, const ImageLimits& limits) {
  std::size_t at = kSignature.size();
  const Header header = read_header(next_chunk(bytes, at, name), name, limits);
  std::size_t compressed = 0;
  bool palette = false;
  for (Chunk chunk = next_chunk(bytes, at, name); chunk.type != "IEND"; chunk = next_chunk(bytes, at, name)) {
    if (chunk.type == "IDAT") compressed += chunk.data.size();
    if (chunk.type == "PLTE") {
      if (palette || compressed != 0 || chunk.data.size() > kPaletteBytes || chunk.data.size() % 3 != 0)
        throw FileError(name + ": the PNG palette is repeated, late or of a wrong size");
      palette = true;
    }
  }
  if (header.color == 3 && !palette) throw FileError(name + ": the PNG palette is missing");

  const std::size_t raw = header.height * (1 + (header.width * header.channels * header.depth + 7) / 8);
  if (raw / kLargestRatio > compressed)
    throw FileError(name + ": " + std::to_string(compressed) + " bytes of PNG data cannot hold " +
                    std::to_string(header.height) + "x" + std::to_string(header.width) + " pixels");
  // The compressed data gathered, the raw samples (with room to grow), and up to three pictures of the widest
  // kind.
  const std::size_t sample_bytes = header.depth == 16 ? 2 : 1;
  const std::size_t picture = header.height * header.width * 4 * sample_bytes;
  return {static_cast<int>(header.height), static_cast<int>(header.width),
          2 * bytes.size() + 2 * raw + 3 * picture + (std::size_t{1} << 20), header.color == 3};
}

std::vector<std::uint8_t> with_full_palette(Bytes bytes) {
  std::vector<std::uint8_t> out(bytes.begin(), bytes.end());
  std::size_t at = kSignature.size();
  while (at < bytes.size()) {
    const std::size_t start = at;
    const Chunk chunk = next_chunk(bytes, at, "PNG");
    if (chunk.type == "IDAT" || chunk.type == "IEND") break;
    if (chunk.type != "PLTE") continue;
    // The checksum becomes wrong, which nobody behind check_png looks at.
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(start + 8 + chunk.data.size()),
               kPaletteBytes - chunk.data.size(), 0);
    out[start + 2] = kPaletteBytes >> 8;
    out[start + 3] = kPaletteBytes & 0xff;
    break;
  }
  return out;
}

}  // namespace grapnel::viz
