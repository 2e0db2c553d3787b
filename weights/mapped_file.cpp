// Mapping, and the one place where refusals are worded.
#include "grapnel/weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>

#include "grapnel/engine/error.h"

namespace grapnel::weights {

static_assert(std::endian::native == std::endian::little, "files are seen in place and are little-endian");

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  // Without O_NONBLOCK, opening a pipe would wait for its writer.
  file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  try {
    struct stat status {};
    if (file_ < 0 || fstat(file_, &status) != 0)
      throw FileError(path_ + ": cannot open: " + std::strerror(errno));
    if (!S_ISREG(status.st_mode)) throw FileError(path_ + ": not a regular file, expected a weight file");
    if (status.st_size == 0) throw FileError(path_ + ": the file is empty, expected a weight file");
    map(static_cast<std::uint64_t>(status.st_size), MAP_PRIVATE);
  } catch (...) {
    if (file_ >= 0) close(file_);
    throw;
  }
}

MappedFile::MappedFile(std::string name, std::span<const std::byte> bytes) : path_(std::move(name)) {
  if (bytes.empty()) throw FileError(path_ + ": is empty, expected the bytes of a weight file");
  map(bytes.size(), MAP_PRIVATE | MAP_ANONYMOUS);
  std::memcpy(data_, bytes.data(), bytes.size());
}

void MappedFile::map(std::uint64_t size, int flags) {
  // Nothing is reserved for pages that may never be written.
  void* data =
      mmap(data_, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, flags & MAP_ANONYMOUS ? -1 : file_, 0);
  if (data == MAP_FAILED) throw FileError(path_ + ": cannot map: " + std::strerror(errno));
  data_ = static_cast<std::byte*>(data);
  size_ = size;
}

void MappedFile::read_into_memory() {
  if (file_ < 0) return;
  map(size_, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
#if defined(MADV_HUGEPAGE)
  madvise(data_, size_, MADV_HUGEPAGE);  // fewer misses in the table of pages; nothing is lost if refused
#endif
  for (std::uint64_t at = 0; at < size_;) {
    const ssize_t got = pread(file_, data_ + at, size_ - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw FileError(path_ + ": cannot read: " + std::strerror(errno));
    if (got == 0)
      throw FileError(path_ + ": became shorter while it was read, " + std::to_string(at) +
                      " bytes instead of " + std::to_string(size_));
    at += static_cast<std::uint64_t>(got);
  }
}

MappedFile::~MappedFile() {
  munmap(data_, size_);
  if (file_ >= 0) close(file_);
}

Section Section::part(std::string entry, std::uint64_t at, std::uint64_t size) const {
  bytes(at, size);
  return {file_, std::move(entry), begin_ + at, size};
}

void Section::refuse(std::uint64_t at, const std::string& message) const {
  throw FileError(file_->path() + ": entry " + quoted(entry_) + ", offset " + std::to_string(begin_ + at) +
                  ": " + message);
}

void Section::refuse_end(std::uint64_t at, std::uint64_t count) const {
  refuse(at, "ends after " + std::to_string(at < size_ ? size_ - at : 0) + " bytes, expected " +
                 std::to_string(count) + " here");
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result = "'";
  for (char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f)
      result += c;
    else
      result += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return result + (text.size() > kLongest ? "...'" : "'");
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
    const unsigned lead = byte(i);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xc2 ? 0
                               : lead < 0xe0 ? 2
                               : lead < 0xf0 ? 3
                               : lead < 0xf5 ? 4
                                             : 0;
    if (length == 0 || length > text.size() - i) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((byte(i + k) & 0xc0) != 0x80) return false;
    // Overlong forms, surrogates, and beyond U+10FFFF show in the second byte.
    if (lead == 0xe0 && byte(i + 1) < 0xa0) return false;
    if (lead == 0xed && byte(i + 1) > 0x9f) return false;
    if (lead == 0xf0 && byte(i + 1) < 0x90) return false;
    if (lead == 0xf4 && byte(i + 1) > 0x8f) return false;
    i += length;
  }
  return true;
}

}  // namespace grapnel::weights
