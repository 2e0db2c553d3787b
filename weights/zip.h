// The directory of a zip archive, as far as torch.save uses the format: zip64, nothing encrypted.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "grapnel/weights/mapped_file.h"
#include "grapnel/weights/weights.h"

namespace grapnel::weights {

struct ZipEntry {
  std::string_view name;  ///< in the mapped file
  std::uint64_t begin;    ///< of its data; both positions count from the beginning of the file
  std::uint64_t size;     ///< as it lies in the archive
  std::uint64_t header;   ///< its place in the central directory
  unsigned method;        ///< 0: stored
};

/// Reads and checks the whole directory: one disk, names unique, local headers that agree with the central
/// ones, and entries that neither overlap nor leave the file. Returns the entries sorted by name. Checksums
/// are not verified: torch can be told not to write them, and reading all data would undo lazy mapping.
/// Throws FileError.
std::vector<ZipEntry> read_zip_directory(const FilePtr& file, const Limits& limits);

/// Throws FileError if an entry is compressed.
void require_stored(const FilePtr& file, std::span<const ZipEntry> entries);

/// The entry of this name, or null.
const ZipEntry* find_entry(std::span<const ZipEntry> sorted, std::string_view name);

}  // namespace grapnel::weights
