// Reading whole files with a limit, and writing them so that a reader sees the old file or the new one, never
// a half.
#include "grapnel/viz/file.h"

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>

#include "grapnel/engine/error.h"

namespace grapnel::viz {
namespace {

namespace fs = std::filesystem;

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

[[noreturn]] void fail(const fs::path& path, const std::string& what, int error) {
  throw FileError(path.string() + ": " + what + ": " + std::generic_category().message(error));
}

/// A new file beside `path`; its name goes to `temporary`. Exclusive, so that two writers never share one.
File create_beside(const fs::path& path, fs::path& temporary) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    temporary = path;
    temporary += ".part" + std::to_string(attempt);
    if (File file{std::fopen(temporary.string().c_str(), "wbx")}) return file;
    if (errno != EEXIST) break;
  }
  fail(path, "cannot be written", errno);
}

}  // namespace

std::vector<std::uint8_t> read_file(const fs::path& path, std::size_t limit) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw FileError(path.string() + ": there is no such file");
  if (!fs::is_regular_file(status)) throw FileError(path.string() + ": is not a regular file");
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) fail(path, "cannot be read", error.value());
  if (size > limit)
    throw FileError(path.string() + ": holds " + std::to_string(size) + " bytes, the limit is " +
                    std::to_string(limit));

  const File file{std::fopen(path.string().c_str(), "rb")};
  if (!file) fail(path, "cannot be read", errno);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  if (std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size())
    throw FileError(path.string() + ": changed or failed while it was read");
  return bytes;
}

void write_file(const fs::path& path, std::span<const std::uint8_t> bytes) {
  fs::path temporary;
  File file = create_beside(path, temporary);
  errno = 0;
  bool written = std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size();
  written = std::fclose(file.release()) == 0 && written;
  int error = errno;
  if (written) {
    std::error_code code;
    fs::rename(temporary, path, code);
    if (!code) return;
    error = code.value();
  }
  std::error_code ignored;
  fs::remove(temporary, ignored);
  fail(path, "cannot be written", error);
}

void write_file(const fs::path& path, std::string_view text) {
  write_file(path, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

}  // namespace grapnel::viz
