// The only door to stb_image and stb_image_write; their code and names stay inside stb.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "grapnel/viz/image.h"

namespace grapnel::viz::stb {

/// Decodes a PNG or JPEG that passed picture_check.h, as RGB: alpha is dropped, grey is repeated. May use
/// `budget` bytes beside the result. Throws FileError that opens with `name`.
Image decode(std::span<const std::uint8_t> bytes, const std::string& name, std::size_t budget);

std::vector<std::uint8_t> encode_png(const Image& image);
std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality);

}  // namespace grapnel::viz::stb
