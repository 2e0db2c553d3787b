// Zip, after PKWARE's APPNOTE 6.3.10: end records (4.3.14 to 4.3.16), central directory (4.3.12), local
// headers (4.3.7).
//
// Sizes and positions come from the central directory only; the local headers are checked against it.
#include "grapnel/weights/zip.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace grapnel::weights {
namespace {

constexpr std::uint32_t kLocalSignature = 0x04034b50;
constexpr std::uint32_t kCentralSignature = 0x02014b50;
constexpr std::uint32_t kEndSignature = 0x06054b50;
constexpr std::uint32_t kEnd64Signature = 0x06064b50;
constexpr std::uint32_t kEnd64LocatorSignature = 0x07064b50;
constexpr std::uint64_t kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20, kCentralSize = 46, kLocalSize = 30;

// "See the zip64 record for this number."
constexpr std::uint16_t kIn64Short = 0xffff;
constexpr std::uint32_t kIn64 = 0xffffffff;

constexpr std::size_t kLongestName = 1024;

constexpr unsigned kEncrypted = 1u << 0;
constexpr unsigned kSizesFollowData = 1u << 3;

struct Directory {
  std::uint64_t begin, size, entries;
};

std::uint64_t find_end_record(const Section& file) {
  constexpr std::uint64_t kLongestComment = 0xffff;
  if (file.size() >= kEndSize) {
    const std::uint64_t last = file.size() - kEndSize;
    const std::uint64_t first = last > kLongestComment ? last - kLongestComment : 0;
    for (std::uint64_t at = last + 1; at-- > first;)
      if (file.number<std::uint32_t>(at) == kEndSignature && file.number<std::uint16_t>(at + 20) == last - at)
        return at;
  }
  file.refuse(file.size(),
              "no end of central directory, expected a complete zip archive; is the file truncated?");
}

/// Where the central directory lies, from the end record and, if there is one, the zip64 record before it.
Directory find_directory(const Section& file) {
  const std::uint64_t end = find_end_record(file);
  Cursor record(file, end + 4);
  const auto disk = record.take<std::uint16_t>(), directory_disk = record.take<std::uint16_t>();
  const auto disk_entries = record.take<std::uint16_t>(), entries = record.take<std::uint16_t>();
  const auto size = record.take<std::uint32_t>(), begin = record.take<std::uint32_t>();
  if (disk != directory_disk || disk_entries != entries || (disk != 0 && disk != kIn64Short))
    file.refuse(end, "archive of several disks, expected one file");

  Directory found{begin, size, entries};
  std::uint64_t records_begin = end;
  if (end >= kLocatorSize && file.number<std::uint32_t>(end - kLocatorSize) == kEnd64LocatorSignature) {
    const std::uint64_t locator = end - kLocatorSize;
    records_begin = file.number<std::uint64_t>(locator + 8);
    if (file.number<std::uint32_t>(locator + 4) != 0 || file.number<std::uint32_t>(locator + 16) > 1)
      file.refuse(locator, "archive of several disks, expected one file");
    if (records_begin > locator || locator - records_begin < kEnd64Size ||
        file.number<std::uint32_t>(records_begin) != kEnd64Signature ||
        file.number<std::uint64_t>(records_begin + 4) != locator - records_begin - 12)
      file.refuse(locator,
                  "zip64 record at " + std::to_string(records_begin) + " expected, none found there");
    Cursor record64(file, records_begin + 16);
    const auto disk64 = record64.take<std::uint32_t>(), directory_disk64 = record64.take<std::uint32_t>();
    const auto disk_entries64 = record64.take<std::uint64_t>();
    found.entries = record64.take<std::uint64_t>();
    found.size = record64.take<std::uint64_t>();
    found.begin = record64.take<std::uint64_t>();
    if (disk64 != 0 || directory_disk64 != 0 || disk_entries64 != found.entries)
      file.refuse(records_begin, "archive of several disks, expected one file");
    if ((entries != kIn64Short && entries != found.entries) || (size != kIn64 && size != found.size) ||
        (begin != kIn64 && begin != found.begin))
      file.refuse(records_begin, "zip64 record and end record disagree about the central directory");
  }
  if (found.begin > records_begin || found.size != records_begin - found.begin)
    file.refuse(end, "central directory of " + std::to_string(found.size) + " bytes at " +
                         std::to_string(found.begin) + ", expected it to end at " +
                         std::to_string(records_begin));
  return found;
}

/// The numbers that a zip64 extra field holds for those that say kIn64, in this order.
void read_zip64_extra(const Section& extra, std::initializer_list<std::uint64_t*> numbers) {
  std::optional<Section> values;
  for (Cursor field(extra); !field.at_end();) {
    const auto id = field.take<std::uint16_t>();
    const auto size = field.take<std::uint16_t>();
    if (id == 1 && !values) values = extra.part("zip64 field", field.at(), size);
    field.skip(size);
  }
  std::uint64_t at = 0;
  for (std::uint64_t* number : numbers) {
    if (*number != kIn64) continue;
    if (!values || values->size() < at + 8)
      extra.refuse(0, "a size or position says zip64, but no zip64 field has it");
    *number = values->number<std::uint64_t>(at);
    at += 8;
  }
}

struct CentralHeader {
  std::string_view name;
  std::uint64_t at;  ///< in the file
  unsigned method;
  std::uint64_t stored_size, size, local_begin;
};

CentralHeader read_central(const Section& directory, Cursor& cursor) {
  CentralHeader header{};
  const std::uint64_t at = cursor.at();
  header.at = directory.begin() + at;
  if (cursor.take<std::uint32_t>() != kCentralSignature)
    directory.refuse(at, "no central header, expected one (PK 01 02)");
  cursor.skip(4);
  const auto flags = cursor.take<std::uint16_t>();
  header.method = cursor.take<std::uint16_t>();
  cursor.skip(8);
  header.stored_size = cursor.take<std::uint32_t>();
  header.size = cursor.take<std::uint32_t>();
  const auto name_size = cursor.take<std::uint16_t>(), extra_size = cursor.take<std::uint16_t>();
  const auto comment_size = cursor.take<std::uint16_t>(), disk = cursor.take<std::uint16_t>();
  cursor.skip(6);
  header.local_begin = cursor.take<std::uint32_t>();
  if (name_size > kLongestName)
    directory.refuse(
        at, "name of " + std::to_string(name_size) + " bytes, the limit is " + std::to_string(kLongestName));
  header.name = cursor.take_bytes(name_size);
  const Section extra = directory.part(std::string(header.name), cursor.at(), extra_size);
  read_zip64_extra(extra, {&header.size, &header.stored_size, &header.local_begin});
  cursor.skip(extra_size + comment_size);

  if (flags & kEncrypted) directory.refuse(at, quoted(header.name) + " is encrypted, expected a plain entry");
  if (header.method == 0 && header.stored_size != header.size)
    directory.refuse(at, quoted(header.name) + " is stored in " + std::to_string(header.stored_size) +
                             " bytes, expected " + std::to_string(header.size));
  if (disk != 0 && disk != kIn64Short)
    directory.refuse(at, quoted(header.name) + " is on another disk, expected one file");
  return header;
}

/// The position of an entry's data, behind a local header that must agree with the central one. `space` is
/// everything before the central directory.
std::uint64_t read_local(const Section& space, const CentralHeader& central) {
  const std::uint64_t at = central.local_begin;
  if (at > space.size() || space.size() - at < kLocalSize ||
      space.number<std::uint32_t>(at) != kLocalSignature)
    space.refuse(at, quoted(central.name) + " has no local header here, expected one (PK 03 04)");
  Cursor cursor(space, at + 6);
  const auto flags = cursor.take<std::uint16_t>(), method = cursor.take<std::uint16_t>();
  cursor.skip(8);
  const auto stored_size = cursor.take<std::uint32_t>(), size = cursor.take<std::uint32_t>();
  const auto name_size = cursor.take<std::uint16_t>(), extra_size = cursor.take<std::uint16_t>();
  const bool names_agree = cursor.take_bytes(name_size) == central.name;
  const bool sizes_agree =
      (size == central.size || size == kIn64) && (stored_size == central.stored_size || stored_size == kIn64);
  if (!names_agree || method != central.method || (!sizes_agree && !(flags & kSizesFollowData)))
    space.refuse(at, "local header of " + quoted(central.name) + " disagrees with the central directory");
  cursor.skip(extra_size);
  if (central.stored_size > space.size() - cursor.at())
    space.refuse(at, quoted(central.name) + " of " + std::to_string(central.stored_size) +
                         " bytes reaches beyond the central directory at " + std::to_string(space.size()));
  return cursor.at();
}

}  // namespace

std::vector<ZipEntry> read_zip_directory(const FilePtr& file, const Limits& limits) {
  const Section whole(file, "end records");
  const Directory found = find_directory(whole);
  const Section directory = whole.part("central directory", found.begin, found.size);
  if (found.entries > limits.entries)
    directory.refuse(
        0, std::to_string(found.entries) + " entries, the limit is " + std::to_string(limits.entries));
  if (found.entries > found.size / kCentralSize)
    directory.refuse(0, std::to_string(found.entries) + " entries announced, too many for " +
                            std::to_string(found.size) + " bytes");

  struct Extent {
    std::uint64_t begin, end, central;
  };
  std::vector<Extent> extents;
  std::vector<ZipEntry> entries;
  extents.reserve(found.entries);
  entries.reserve(found.entries);
  const Section space = whole.part("local headers", 0, found.begin);
  Cursor cursor(directory);
  for (std::uint64_t i = 0; i < found.entries; ++i) {
    const CentralHeader header = read_central(directory, cursor);
    const std::uint64_t begin = read_local(space, header);
    entries.push_back({header.name, begin, header.stored_size, header.at, header.method});
    extents.push_back({header.local_begin, begin + header.stored_size, header.at});
  }
  if (!cursor.at_end()) directory.refuse(cursor.at(), "the directory goes on after its last entry");

  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  for (std::size_t i = 1; i < extents.size(); ++i)
    if (extents[i].begin < extents[i - 1].end)
      whole.refuse(extents[i].central, "two entries overlap at " + std::to_string(extents[i].begin));

  std::sort(entries.begin(), entries.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < entries.size(); ++i)
    if (entries[i].name == entries[i - 1].name)
      whole.refuse(entries[i].begin,
                   "two entries are named " + quoted(entries[i].name) + ", expected unique names");
  return entries;
}

void require_stored(const FilePtr& file, std::span<const ZipEntry> entries) {
  for (const ZipEntry& entry : entries)
    if (entry.method != 0)
      Section(file, "central directory")
          .refuse(entry.header, quoted(entry.name) + " is compressed (method " +
                                    std::to_string(entry.method) +
                                    "), expected a stored entry, as torch.save writes it");
}

const ZipEntry* find_entry(std::span<const ZipEntry> sorted, std::string_view name) {
  const auto found =
      std::lower_bound(sorted.begin(), sorted.end(), name,
                       [](const ZipEntry& entry, std::string_view key) { return entry.name < key; });
  return found != sorted.end() && found->name == name ? &*found : nullptr;
}

}  // namespace grapnel::weights
