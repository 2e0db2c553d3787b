// What a training run tells while it runs: a line an epoch in a file, and a moving line on a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "output.h"

namespace grapnel::tools {

/// One JSON object a line, one line an epoch.
class TrainLog {
 public:
  explicit TrainLog(std::filesystem::path path) : path_(std::move(path)) {}

  /// Keeps the first `epochs` lines that the file has, and drops the rest. Throws FileError if it has fewer.
  void begin(int epochs);
  void add(const Json& line);
  const std::vector<Json>& lines() const { return lines_; }

 private:
  void write() const;

  std::filesystem::path path_;
  std::vector<Json> lines_;
};

/// `epoch 3/30 [=====>    ] 812 images/s, loss 0.524, accuracy 81.2 %, 12:34 left` on a terminal; nothing in
/// a pipe.
class Status {
 public:
  /// An epoch of `batches`, of which `done` were done before.
  Status(std::string title, std::size_t batches, std::int64_t done);
  ~Status() { clear(); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;

  /// One more batch of so many pictures; loss and accuracy are the epoch's so far.
  void step(std::int64_t pictures, double loss, double accuracy, int epochs_left);
  /// Another work of the same epoch.
  void note(const std::string& what);
  void clear();

 private:
  std::string title_;
  std::size_t batches_, first_, done_;
  std::int64_t pictures_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  bool shown_;
};

}  // namespace grapnel::tools
