#include "graphviz.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "grapnel/engine/error.h"

namespace grapnel::tools {
namespace {

/// A file without a name, gone when closed.
class Scratch {
 public:
  Scratch() : file_(std::tmpfile()) {
    if (!file_) throw FileError(std::string("no temporary file can be made: ") + std::strerror(errno));
  }
  ~Scratch() { std::fclose(file_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  int number() const { return fileno(file_); }
  void write(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0)
      throw FileError(std::string("a temporary file cannot be written: ") + std::strerror(errno));
    std::rewind(file_);
  }
  std::string text() {
    std::rewind(file_);
    std::string result;
    char block[4096];
    while (const std::size_t count = std::fread(block, 1, sizeof block, file_)) result.append(block, count);
    return result;
  }

 private:
  std::FILE* file_;
};

/// Runs a program found in PATH. Returns its wait status, or nothing but an errno if it cannot be started.
int run(const char* const* arguments, const Scratch& in, const Scratch& out, const Scratch& err,
        int* status) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, in.number(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, out.number(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, err.number(), STDERR_FILENO);
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, arguments[0], &files, nullptr, const_cast<char* const*>(arguments), environ);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) return error;
  while (waitpid(child, status, 0) < 0)
    if (errno != EINTR) return errno;
  return 0;
}

}  // namespace

std::string draw_svg(const std::string& dot) {
  Scratch in, out, err;
  in.write(dot);
  const char* const arguments[] = {"dot", "-Tsvg", nullptr};
  int status = 0;
  if (const int error = run(arguments, in, out, err, &status); error != 0)
    throw Error(std::string("Graphviz's `dot` cannot be run (") + std::strerror(error) +
                "): install graphviz, or write a .dot file");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Error("Graphviz's `dot` failed: " + err.text() + "; a .dot file needs no Graphviz");
  return out.text();
}

}  // namespace grapnel::tools
