// Recorded event traces in golden/: sections "[scenario]", one event a line.
#pragma once

#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

namespace grapnel::testing {

inline std::vector<std::string> scenario_lines(const std::string& file_name, const std::string& scenario) {
  std::ifstream file(GRAPNEL_TEST_DIR "/nn/golden/" + file_name);
  std::vector<std::string> lines;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("["))
      inside = line == "[" + scenario + "]";
    else if (inside)
      lines.push_back(line);
  }
  REQUIRE_FALSE(lines.empty());
  return lines;
}

}  // namespace grapnel::testing
