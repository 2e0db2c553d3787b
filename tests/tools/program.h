// Running the program, and the small network and pictures that it gets in the tests.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "grapnel/nn/models.h"

namespace grapnel::testing {

struct Run {
  int code;
  std::string out, err;

  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

/// A folder of its own for one test case, where the program runs; removed at the end.
class Workshop {
 public:
  Workshop();
  ~Workshop();
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;

  /// Runs `grapnel ARGUMENTS` (words of a shell command) in the folder, which is also its cache folder.
  Run grapnel(const std::string& arguments) const;
  /// The same, with Ctrl-C after so many seconds if it still runs.
  Run interrupted(const std::string& arguments, double seconds) const;
  /// The same where no file may grow beyond so many KiB, as if the disk were full.
  Run with_little_room(const std::string& arguments, int kib) const;
  std::filesystem::path path(const std::string& name) const { return folder_ / name; }
  std::string text(const std::string& name) const;
  void write_text(const std::string& name, const std::string& content) const;
  /// How many files the folder `name` holds; 0 if there is none.
  std::size_t count(const std::string& name) const;

  /// A network of width 4 with random weights, in eval mode, whose weights are written to NAME.safetensors.
  std::shared_ptr<nn::Module> make_weights(const std::string& model, std::int64_t classes = 10) const;
  /// A colourful picture that depends on `seed`.
  void make_picture(const std::string& name, int height, int width, int seed = 0) const;

 private:
  Run run(const std::string& program, const std::string& arguments) const;

  std::filesystem::path folder_;
};

/// Checks that a run failed as promised: code 2, nothing on standard output, and one line on standard error
/// that opens with "grapnel COMMAND: " and holds `part`.
void check_fails(const Run& run, const std::string& command, const std::string& part);

/// The largest difference between two tensors of one shape.
double distance(const Tensor& a, const Tensor& b);

}  // namespace grapnel::testing
