// Where the files of an uncompressed tar lie, and their bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace grapnel::tools {

class TarFile {
 public:
  struct Entry {
    std::string path;  ///< as written, without a leading "./" and a trailing "/"
    bool folder;       ///< else a regular file; links and devices are left out
    std::uint64_t offset, bytes;
  };

  /// Walks the headers: ustar, GNU and pax, long names included. Throws FileError for a file that is no tar,
  /// is compressed, damaged or ends early.
  explicit TarFile(const std::filesystem::path& path);

  /// In the order of the file. A name may occur twice: the later one counts.
  const std::vector<Entry>& entries() const { return entries_; }
  /// Safe from several threads. Throws FileError.
  std::vector<std::uint8_t> read(std::uint64_t offset, std::uint64_t bytes) const;

 private:
  struct Descriptor {
    int value;
    explicit Descriptor(int opened) : value(opened) {}
    ~Descriptor();
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
  };

  [[noreturn]] void fail(const std::string& what) const;
  void check_kind() const;
  void list();
  std::string text(std::uint64_t offset, std::uint64_t bytes) const;

  std::filesystem::path path_;
  Descriptor descriptor_;
  std::uint64_t size_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace grapnel::tools
