// Reading golden/expected.txt, and the pictures its cases are made of (golden/make_golden.py has the Python
// side).
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "grapnel/viz/image.h"
#include "support/formula.h"

namespace grapnel::testing {

inline std::filesystem::path golden_path(const std::string& name) {
  return std::filesystem::path(GRAPNEL_TEST_DIR) / "viz" / "golden" / name;
}

/// The words behind `kind` of every case of that kind. Throws if there is none.
inline std::vector<std::vector<std::string>> cases(const std::string& kind) {
  std::ifstream file(golden_path("expected.txt"));
  std::vector<std::vector<std::string>> found;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word != kind) continue;
    found.emplace_back();
    while (words >> word) found.back().push_back(word);
  }
  if (found.empty()) throw std::runtime_error("expected.txt has no case of kind " + kind);
  return found;
}

/// FNV-1a as eight hexadecimal digits.
inline std::string fnv(std::span<const std::uint8_t> bytes) {
  char digits[9];
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::snprintf(digits, sizeof digits, "%08x", name_hash(text));
  return digits;
}
inline std::string fnv(const Tensor& tensor) {
  const std::vector<float> values = tensor.to_vector<float>();
  return fnv({reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(float)});
}

inline viz::Image picture(const std::string& name, int height, int width, int channels = 3) {
  const Tensor values = integers(name, {height, width, channels}, 256);
  return viz::Image(height, width, channels, values.to_vector<std::uint8_t>());
}

/// A folder of its own that vanishes with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("grapnel_test_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::size_t files() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

 private:
  std::filesystem::path path_;
};

/// The message of the exception of type E that `run` throws; empty if it throws none.
template <class E, class Run>
std::string message_of(const Run& run) {
  try {
    run();
  } catch (const E& error) {
    return error.what();
  }
  return {};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace grapnel::testing
