// What the tests of weight files share: temporary files, and reading with the message kept.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "grapnel/engine/error.h"
#include "grapnel/weights/weights.h"

namespace grapnel::testing {

inline std::string golden(const std::string& file) {
  return std::string(GRAPNEL_TEST_DIR "/weights/golden/") + file;
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("no file " + path);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

/// A fresh folder, removed with everything in it at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "grapnel-test-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("no temporary folder " + pattern);
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& file) const { return (path_ / file).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A file whose content is replaced as a test goes on.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& content = {})
      : descriptor_(open(path().c_str(), O_RDWR | O_CREAT, 0600)) {
    write(content);
  }
  ~ScratchFile() { close(descriptor_); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  std::string path() const { return folder_ / "file"; }

  void write(std::string_view content) {
    truncate(0);
    put(0, content);
  }
  void put(std::uint64_t at, std::string_view content) {
    if (pwrite(descriptor_, content.data(), content.size(), static_cast<off_t>(at)) !=
        static_cast<ssize_t>(content.size()))
      throw std::runtime_error("cannot write " + path());
  }
  void truncate(std::uint64_t size) {
    if (ftruncate(descriptor_, static_cast<off_t>(size)) != 0)
      throw std::runtime_error("cannot truncate " + path());
  }

 private:
  TemporaryFolder folder_;
  int descriptor_;
};

/// Reads the file and every element of it; gives the message of the FileError, or "" if it was read. Any
/// other exception passes through.
inline std::string refusal(const std::string& path, const weights::ReadOptions& options = {}) {
  try {
    for (const auto& [name, tensor] : weights::read(path, options).tensors) tensor.to_vector<double>();
    return {};
  } catch (const FileError& error) {
    return error.what();
  }
}

/// The number as its bytes in a file.
template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

}  // namespace grapnel::testing
