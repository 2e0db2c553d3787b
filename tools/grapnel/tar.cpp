// The tar format: blocks of 512 bytes, a header before the bytes of each file, two empty blocks at the end.
//
// A name longer than the header's field stands in an entry of its own before the one it names: type 'L' (GNU)
// or a line "LENGTH path=NAME" in type 'x' (pax, POSIX.1-2001).
#include "tar.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "grapnel/engine/error.h"

namespace grapnel::tools {
namespace {

constexpr std::uint64_t kBlock = 512;
constexpr std::uint64_t kLongestName = 1 << 16;

std::uint64_t padded(std::uint64_t bytes) {
  return (bytes + kBlock - 1) / kBlock * kBlock;
}

/// One header block.
class Header {
 public:
  explicit Header(const std::vector<std::uint8_t>& block) {
    std::copy_n(block.begin(), kBlock, block_.begin());
  }

  bool empty() const {
    return std::all_of(block_.begin(), block_.end(), [](std::uint8_t byte) { return byte == 0; });
  }
  /// The checksum counts its own field as spaces.
  bool valid() const {
    std::uint64_t sum = 8 * ' ';
    for (std::size_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? 0 : block_[i];
    return number(148, 8) == sum;
  }
  char type() const { return static_cast<char>(block_[156]); }
  std::optional<std::uint64_t> bytes() const { return number(124, 12); }
  std::string path() const {
    const std::string name(field(0, 100));
    const std::string_view prefix = field(257, 6) == "ustar" ? field(345, 155) : std::string_view();
    return prefix.empty() ? name : std::string(prefix) + "/" + name;
  }

 private:
  /// Text up to the first zero byte.
  std::string_view field(std::size_t at, std::size_t length) const {
    const std::string_view whole(reinterpret_cast<const char*>(block_.data()) + at, length);
    return whole.substr(0, whole.find('\0'));
  }
  /// Octal digits, or for what they cannot hold GNU's big-endian bytes behind 0x80.
  std::optional<std::uint64_t> number(std::size_t at, std::size_t length) const {
    std::uint64_t value = 0;
    if (block_[at] == 0x80) {
      for (std::size_t i = length - 8; i < length; ++i) value = value << 8 | block_[at + i];
      return value;
    }
    std::string_view digits = field(at, length);
    digits.remove_prefix(std::min(digits.find_first_not_of(' '), digits.size()));
    digits = digits.substr(0, digits.find(' '));
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
    if (error != std::errc() || end != digits.data() + digits.size()) return {};
    return value;
  }

  std::array<std::uint8_t, kBlock> block_;
};

/// What pax entries and GNU long names say about the entry that follows them.
struct Extra {
  std::string path;
  std::optional<std::uint64_t> bytes;
};

/// Reads records "LENGTH key=value\n"; false if they are not well formed.
bool read_pax(std::string_view records, Extra& extra) {
  while (!records.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(records.data(), records.data() + records.size(), length);
    const auto head = static_cast<std::size_t>(end - records.data()) + 1;
    if (error != std::errc() || length > records.size() || length <= head) return false;
    const std::string_view record = records.substr(head, length - head - 1);
    if (record.starts_with("path=")) extra.path = record.substr(5);
    if (record.starts_with("size=")) {
      std::uint64_t bytes = 0;
      std::from_chars(record.data() + 5, record.data() + record.size(), bytes);
      extra.bytes = bytes;
    }
    records.remove_prefix(length);
  }
  return true;
}

std::string trimmed(std::string path) {
  while (path.starts_with("./")) path.erase(0, 2);
  while (path.ends_with('/')) path.pop_back();
  return path;
}

/// How a file that is no tar begins, and what to do about it.
constexpr std::pair<std::string_view, std::string_view> kOthers[] = {
    {"\x1f\x8b", "is compressed; decompress it first: gunzip "},
    {"BZh", "is compressed; decompress it first: bunzip2 "},
    {"\xfd"
     "7zXZ",
     "is compressed; decompress it first: unxz "},
    {"\x28\xb5\x2f\xfd", "is compressed; decompress it first: unzstd "},
    {"PK\x03\x04", "is a zip file; unpack it first: unzip "},
};

}  // namespace

TarFile::Descriptor::~Descriptor() {
  if (value >= 0) ::close(value);
}

TarFile::TarFile(const std::filesystem::path& path)
    : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_.value < 0) fail("cannot be read: " + std::generic_category().message(errno));
  size_ = std::filesystem::file_size(path);
  check_kind();
  list();
}

void TarFile::fail(const std::string& what) const {
  throw FileError(path_.string() + ": " + what);
}

std::vector<std::uint8_t> TarFile::read(std::uint64_t offset, std::uint64_t bytes) const {
  std::vector<std::uint8_t> result(bytes);
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t got =
        ::pread(descriptor_.value, result.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot be read: " + std::generic_category().message(errno));
    if (got == 0) fail("became shorter while it was read");
    done += static_cast<std::uint64_t>(got);
  }
  return result;
}

std::string TarFile::text(std::uint64_t offset, std::uint64_t bytes) const {
  if (bytes > kLongestName) fail("a name in the tar has " + std::to_string(bytes) + " bytes");
  const std::vector<std::uint8_t> raw = read(offset, bytes);
  return {raw.begin(), raw.end()};
}

void TarFile::check_kind() const {
  const std::vector<std::uint8_t> raw = read(0, std::min(size_, kBlock));
  const std::string_view begin(reinterpret_cast<const char*>(raw.data()), raw.size());
  for (const auto& [magic, advice] : kOthers)
    if (begin.starts_with(magic)) fail(std::string(advice) + path_.string());
  if (raw.size() < kBlock || !(Header(raw).empty() || Header(raw).valid()))
    fail("is neither a folder of class folders nor a tar of them");
}

void TarFile::list() {
  Extra extra;
  for (std::uint64_t at = 0;;) {
    if (at + kBlock > size_) fail("the tar ends early; was it copied completely?");
    const Header header(read(at, kBlock));
    if (header.empty()) return;
    const auto damaged = [&] { fail("the tar is damaged at byte " + std::to_string(at)); };
    const std::optional<std::uint64_t> said = header.bytes();
    if (!header.valid() || !said) damaged();
    const char type = header.type();
    const bool about_next = type == 'L' || type == 'K' || type == 'x' || type == 'g';
    const std::uint64_t bytes = about_next ? *said : extra.bytes.value_or(*said), content = at + kBlock;
    if (bytes > size_ || content + padded(bytes) > size_)
      fail("the tar ends early; was it copied completely?");

    if (type == 'L') {
      extra.path = text(content, bytes);
      extra.path.resize(std::min(extra.path.find('\0'), extra.path.size()));
    } else if (type == 'x') {
      if (!read_pax(text(content, bytes), extra)) damaged();
    } else if (!about_next) {
      const bool folder = type == '5', regular = type == '0' || type == '\0' || type == '7';
      if (folder || regular)
        entries_.push_back(
            {trimmed(extra.path.empty() ? header.path() : extra.path), folder, content, bytes});
      extra = {};
    }
    at = content + padded(bytes);
  }
}

}  // namespace grapnel::tools
