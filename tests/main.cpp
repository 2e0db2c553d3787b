// Runs the cases with GRAPNEL_TEST_DEVICE as the default device; the CPU if it is not set.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>

#include "grapnel/engine/device.h"
#include "support/device.h"

namespace {

/// A filter that lets nothing through is a mistake: CTest once cut a name in two at a semicolon.
struct CaseCount : doctest::IReporter {
  static inline unsigned found = 0;

  explicit CaseCount(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override { found = 1; }
  void test_run_end(const doctest::TestRunStats& run) override { found = run.numTestCasesPassingFilters; }
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("case_count", 1, CaseCount);

}  // namespace

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
  const int result = context.run();
  if (CaseCount::found > 0) return result;
  std::cerr << "no test case has this name\n";
  return 1;
}
