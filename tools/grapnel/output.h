// What commands print and write: JSON, progress, names of files.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

#include "grapnel/engine/shape.h"

namespace grapnel::tools {

using Json = nlohmann::ordered_json;

/// Indented, with bytes that are not UTF-8 (in a file's name) replaced.
std::string to_text(const Json& value);
/// The one object that --json promises on standard output.
void print(const Json& value);
/// [2, 3, 4].
Json to_json(const Dims& dims);

/// What printf would print, of which there are at most 255 characters.
template <class... Arguments>
std::string format(const char* text, Arguments... arguments) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, text, arguments...);
  return buffer;
}

/// Throws FileError unless a file can come to stand at `path`: its folder exists, and nothing but a regular
/// file is in the way. Commands ask before they start to work.
void check_output(const std::filesystem::path& path);
/// Makes the folder and those above it. Throws FileError.
void make_folder(const std::filesystem::path& path);

/// `text` as a part of a file name: letters, digits, "-", "." and whatever is not ASCII stay, the rest
/// becomes
/// "_". At most 80 bytes.
std::string file_name_part(std::string_view text);

/// Thrown when a person stopped a long work: exit code 130, as after any Ctrl-C.
struct Interrupted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One line on a terminal that tells how far a long work is; nothing in a pipe.
class Progress {
 public:
  explicit Progress(std::size_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// The next of `total` pieces begins.
  void step(const std::string& what);
  /// Takes the line away, for something else to be printed.
  void clear();

 private:
  std::size_t total_, done_ = 0;
  bool shown_;
};

}  // namespace grapnel::tools
