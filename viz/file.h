// Whole files in and out, with errors that name the file and the reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace grapnel::viz {

/// The bytes of a regular file. Throws FileError if there is none, if it cannot be read, or if it holds more
/// than `limit`.
std::vector<std::uint8_t> read_file(const std::filesystem::path& path, std::size_t limit);

/// Writes beside `path` and renames, so that nobody ever sees half a file. Throws FileError.
void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);
void write_file(const std::filesystem::path& path, std::string_view text);

}  // namespace grapnel::viz
