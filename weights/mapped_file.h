// A file seen as memory, and named stretches of it that parsers read with every access checked.
//
// Every refusal of a file goes through Section::refuse, which is what gives all messages their one form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace grapnel::weights {

/// A regular file mapped privately, or a copy of bytes: readable and writable, but what is written stays in
/// this process.
class MappedFile {
 public:
  /// Throws FileError if there is no such regular file, it is empty, or it cannot be mapped.
  explicit MappedFile(std::string path);
  /// A copy of `bytes`; `name` stands for the path in messages. Throws FileError if there are none.
  MappedFile(std::string name, std::span<const std::byte> bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// Puts the file's bytes, at the same addresses, into memory that no longer depends on it; what was written
  /// to them is lost. Throws FileError if they cannot be read.
  void read_into_memory();

  const std::string& path() const { return path_; }
  std::byte* data() const { return data_; }
  std::uint64_t size() const { return size_; }

 private:
  void map(std::uint64_t size, int flags);

  std::string path_;
  int file_ = -1;
  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
};

using FilePtr = std::shared_ptr<const MappedFile>;

/// A stretch of a file under the name that messages use for it. Positions count from its beginning.
class Section {
 public:
  /// The stretch must lie inside the file; part() checks that it does.
  Section(FilePtr file, std::string entry, std::uint64_t begin, std::uint64_t size)
      : file_(std::move(file)), entry_(std::move(entry)), begin_(begin), size_(size) {}
  /// A whole file.
  Section(FilePtr file, std::string entry) : Section(file, std::move(entry), 0, file->size()) {}

  const FilePtr& file() const { return file_; }
  std::uint64_t begin() const { return begin_; }
  std::uint64_t size() const { return size_; }

  /// A stretch of this one. Refuses one that reaches outside.
  Section part(std::string entry, std::uint64_t at, std::uint64_t size) const;

  /// `count` bytes. Refuses if the section ends before.
  std::string_view bytes(std::uint64_t at, std::uint64_t count) const {
    if (at > size_ || count > size_ - at) refuse_end(at, count);
    return {reinterpret_cast<const char*>(file_->data() + begin_ + at), static_cast<std::size_t>(count)};
  }

  /// A little-endian number. Refuses if the section ends before.
  template <class T>
  requires std::is_arithmetic_v<T> T number(std::uint64_t at)
  const {
    T value;
    std::memcpy(&value, bytes(at, sizeof(T)).data(), sizeof(T));
    return value;
  }

  /// Throws FileError "FILE: entry E, offset O: message"; the offset shown counts from the beginning of the
  /// file.
  [[noreturn]] void refuse(std::uint64_t at, const std::string& message) const;

 private:
  [[noreturn]] void refuse_end(std::uint64_t at, std::uint64_t count) const;

  FilePtr file_;
  std::string entry_;
  std::uint64_t begin_, size_;
};

/// Reads a section from front to back.
class Cursor {
 public:
  explicit Cursor(const Section& section, std::uint64_t at = 0) : section_(section), at_(at) {}

  std::uint64_t at() const { return at_; }
  bool at_end() const { return at_ >= section_.size(); }

  template <class T>
  T take() {
    T value = section_.number<T>(at_);
    at_ += sizeof(T);
    return value;
  }
  std::string_view take_bytes(std::uint64_t count) {
    std::string_view bytes = section_.bytes(at_, count);
    at_ += count;
    return bytes;
  }
  void skip(std::uint64_t count) { take_bytes(count); }

 private:
  const Section& section_;
  std::uint64_t at_;
};

/// Text from a file made fit for a one-line message: in quotes, unprintable bytes as \xNN, long text
/// shortened.
std::string quoted(std::string_view text);

/// Whether the bytes are well-formed UTF-8 (Unicode 15, table 3-7).
bool is_utf8(std::string_view text);

}  // namespace grapnel::weights
