#include "output.h"

#include <unistd.h>

#include <iostream>

#include "grapnel/engine/error.h"

namespace grapnel::tools {

namespace fs = std::filesystem;

std::string to_text(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void print(const Json& value) {
  std::cout << to_text(value);
}

Json to_json(const Dims& dims) {
  Json list = Json::array();
  for (std::int64_t size : dims) list.push_back(size);
  return list;
}

void check_output(const fs::path& path) {
  std::error_code ignored;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  if (!fs::is_directory(folder, ignored))
    throw FileError(path.string() + ": cannot be written: there is no folder " + folder.string());
  const fs::file_status status = fs::status(path, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw FileError(path.string() + ": cannot be written: something that is not a file has this name");
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw FileError(path.string() + ": cannot be made a folder: " + error.message());
}

std::string file_name_part(std::string_view text) {
  constexpr std::size_t kMost = 80;
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
  std::size_t length = text.size();
  if (length > kMost)
    for (length = kMost; length > 0 && continues(text[length]);) --length;  // whole UTF-8 characters

  std::string part(text.substr(0, length));
  for (char& c : part) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && !std::isalnum(byte) && c != '-' && c != '.') c = '_';
  }
  return part;
}

Progress::Progress(std::size_t total) : total_(total), shown_(total > 1 && isatty(STDERR_FILENO)) {}

Progress::~Progress() {
  clear();
}

void Progress::clear() {
  if (shown_) std::cerr << "\r\033[K" << std::flush;
}

void Progress::step(const std::string& what) {
  ++done_;
  clear();
  if (shown_) std::cerr << done_ << "/" << total_ << " " << what << std::flush;
}

}  // namespace grapnel::tools
