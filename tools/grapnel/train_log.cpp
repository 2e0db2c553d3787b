#include "train_log.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>

#include "grapnel/engine/error.h"
#include "grapnel/viz/file.h"

namespace grapnel::tools {

void TrainLog::begin(int epochs) {
  lines_.clear();
  std::ifstream file(path_);
  for (std::string line; static_cast<int>(lines_.size()) < epochs && std::getline(file, line);) {
    lines_.push_back(Json::parse(line, nullptr, false));
    if (!lines_.back().is_object()) throw FileError(path_.string() + ": is no log of `grapnel train`");
  }
  if (static_cast<int>(lines_.size()) < epochs)
    throw FileError(path_.string() + ": has " + std::to_string(lines_.size()) +
                    " epochs, but the checkpoint was written after " + std::to_string(epochs));
  write();
}

void TrainLog::add(const Json& line) {
  lines_.push_back(line);
  write();
}

void TrainLog::write() const {
  std::string text;
  for (const Json& line : lines_) text += line.dump() + "\n";
  viz::write_file(path_, text);
}

Status::Status(std::string title, std::size_t batches, std::int64_t done)
    : title_(std::move(title)),
      batches_(batches),
      first_(static_cast<std::size_t>(done)),
      done_(first_),
      shown_(isatty(STDERR_FILENO)) {}

void Status::step(std::int64_t pictures, double loss, double accuracy, int epochs_left) {
  ++done_;
  pictures_ += pictures;
  if (!shown_) return;
  constexpr std::size_t kBar = 20;
  const std::size_t filled = kBar * done_ / batches_;
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start_;
  const double a_batch = time.count() / static_cast<double>(done_ - first_);
  const double left =
      a_batch * static_cast<double>(batches_ - done_ + static_cast<std::size_t>(epochs_left) * batches_);
  const auto minutes = static_cast<long>(left) / 60, seconds = static_cast<long>(left) % 60;
  char line[200];
  std::snprintf(line, sizeof line, " [%s%s] %.0f images/s, loss %.4f, accuracy %.1f %%, %ld:%02ld left",
                std::string(filled, '=').c_str(), std::string(kBar - filled, ' ').c_str(),
                static_cast<double>(pictures_) / time.count(), loss, 100 * accuracy, minutes, seconds);
  std::cerr << "\r\033[K" << title_ << line << std::flush;
}

void Status::note(const std::string& what) {
  if (shown_) std::cerr << "\r\033[K" << title_ << " " << what << std::flush;
}

void Status::clear() {
  if (shown_) std::cerr << "\r\033[K" << std::flush;
}

}  // namespace grapnel::tools
