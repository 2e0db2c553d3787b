// A small set of labelled pictures on disk, and tars of it, for the tests of what reads them.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "program.h"

namespace grapnel::testing {

struct Gallery : Workshop {
  /// set/CLASS/N.png: 4 cats, 5 dogs and 2 "old owls", no two pictures alike.
  Gallery() {
    int seed = 0;
    for (const auto& [name, count] : {std::pair{"dog", 5}, {"cat", 4}, {"old owl", 2}})
      for (int i = 0; i < count; ++i, ++seed)
        add("set/" + std::string(name) + "/" + std::to_string(i) + ".png", 12 + seed, 16, seed);
  }

  void add(const std::string& name, int height, int width, int seed) const {
    make_folder(std::filesystem::path(name).parent_path().string());
    make_picture(name, height, width, seed);
  }
  void add_text(const std::string& name, const std::string& content) const {
    make_folder(std::filesystem::path(name).parent_path().string());
    write_text(name, content);
  }
  void make_folder(const std::string& name) const { std::filesystem::create_directories(path(name)); }

  /// Runs `tar -cf NAME WORDS` in the folder.
  std::filesystem::path tar(const std::string& name, const std::string& words) const {
    REQUIRE(std::system(("cd '" + path("").string() + "' && tar -cf " + name + " " + words).c_str()) == 0);
    return path(name);
  }
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

}  // namespace grapnel::testing
