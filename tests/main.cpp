// Runs the cases with GRAPNEL_TEST_DEVICE as the default device; the CPU if it is not set.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>

#include "grapnel/engine/device.h"
#include "support/device.h"

int main(int argc, char** argv) {
  using namespace grapnel;
  const char* wanted = std::getenv("GRAPNEL_TEST_DEVICE");
  const std::string device = wanted ? wanted : "cpu";
  doctest::Context context(argc, argv);
  if (device != "cpu") {
    if (cuda_device_count() == 0) {
      std::cout << "skipped: no CUDA device\n";
      return 0;
    }
    context.addFilter("test-suite-exclude", testing::kOnCpuOnly);
  }
  const DefaultDevice scope(parse_device(device));
  return context.run();
}
