// NumPy's .npy files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "grapnel/engine/tensor.h"
#include "grapnel/viz/image.h"

namespace grapnel::viz {

/// Reads format 1.0, 2.0 or 3.0; float32, float64 or int64, little endian, in C or Fortran order. The result
/// is row-major. Throws FileError naming the file and what is wrong or not supported.
Tensor read_npy(const std::filesystem::path& path);
/// The same from memory; `name` stands for the file in messages.
Tensor decode_npy(std::span<const std::uint8_t> bytes, const std::string& name = "npy");

/// Writes format 1.0, row-major; the file appears whole or not at all. float32, float64 and int64 as they
/// are, other types throw TypeError. Throws FileError if it cannot be written.
void write_npy(const std::filesystem::path& path, const Tensor& tensor);
/// A map as float32 (H,W).
void write_npy(const std::filesystem::path& path, const FloatMap& map);
std::vector<std::uint8_t> encode_npy(const Tensor& tensor);

}  // namespace grapnel::viz
