// What the examples share: telling whether what they promise came true.
#pragma once

#include <cstdio>

/// Prints the promise and whether it holds; the program's exit code.
inline int promise(bool holds, const char* what) {
  std::printf("%s: %s\n", holds ? "yes" : "NO", what);
  return holds ? 0 : 1;
}
