// Which table runs: the list's order, and GRAPNEL_KERNEL. The choice is made once a process, so other values
// of the variable are tried in children.
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "grapnel/kernels/kernels.h"
#include "kernel_testing.h"

using namespace grapnel::kernels;

namespace {

/// Name of the table a process chooses that starts with GRAPNEL_KERNEL = value (null: unset), "none" for
/// null.
std::string chosen_with(const char* value) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (value != nullptr) {
      setenv("GRAPNEL_KERNEL", value, 1);
    } else {
      unsetenv("GRAPNEL_KERNEL");
    }
    const Table* table = select_cpu();
    const char* name = table != nullptr ? table->name : "none";
    const bool sent = write(ends[1], name, std::strlen(name)) == static_cast<ssize_t>(std::strlen(name));
    _exit(sent ? 0 : 1);
  }
  close(ends[1]);
  char name[64] = {};
  const ssize_t got = read(ends[0], name, sizeof(name) - 1);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  return got > 0 ? std::string(name) : std::string();
}

/// Names of the entries that are null.
template <class T>
std::vector<std::string> missing(const FloatKernels<T>& k) {
  std::vector<std::string> names;
#define GRAPNEL_ENTRY(entry) \
  if (k.entry == nullptr) names.push_back(#entry)
  GRAPNEL_ENTRY(unary);
  GRAPNEL_ENTRY(binary);
  GRAPNEL_ENTRY(reduce);
  GRAPNEL_ENTRY(gemm);
  GRAPNEL_ENTRY(conv2d_packed_size);
  GRAPNEL_ENTRY(conv2d_pack);
  GRAPNEL_ENTRY(conv2d_variant);
  GRAPNEL_ENTRY(conv2d_forward);
  GRAPNEL_ENTRY(conv2d_input_grad);
  GRAPNEL_ENTRY(conv2d_weight_grad);
  GRAPNEL_ENTRY(max_pool2d);
  GRAPNEL_ENTRY(max_pool2d_scatter);
  GRAPNEL_ENTRY(max_pool2d_gather);
  GRAPNEL_ENTRY(avg_pool2d);
  GRAPNEL_ENTRY(avg_pool2d_adjoint);
  GRAPNEL_ENTRY(adaptive_avg_pool2d);
  GRAPNEL_ENTRY(adaptive_avg_pool2d_adjoint);
  GRAPNEL_ENTRY(channel_moments);
  GRAPNEL_ENTRY(channel_epilogue);
  GRAPNEL_ENTRY(channel_dots);
  GRAPNEL_ENTRY(channel_blend);
  GRAPNEL_ENTRY(softmax);
  GRAPNEL_ENTRY(log_softmax);
  GRAPNEL_ENTRY(interpolate);
  GRAPNEL_ENTRY(interpolate_adjoint);
  GRAPNEL_ENTRY(index_select);
  GRAPNEL_ENTRY(index_add);
  GRAPNEL_ENTRY(gather);
  GRAPNEL_ENTRY(scatter_add);
  GRAPNEL_ENTRY(argmax);
#undef GRAPNEL_ENTRY
  return names;
}

}  // namespace

TEST_CASE("dispatch: portable and reference run everywhere, reference is last, every entry is there") {
  const std::vector<const Table*> tables = grapnel::testing::tables();
  REQUIRE(tables.size() >= 2);
  CHECK(std::string(tables[tables.size() - 2]->name) == "portable");
  CHECK(std::string(tables.back()->name) == "reference");
  for (const Table* table : tables) {
    CAPTURE(table->name);
    CHECK(missing(table->f32).empty());
    CHECK(missing(table->f64).empty());
    const bool has_copy = table->copy != nullptr;
    CHECK(has_copy);
  }
}

TEST_CASE("dispatch: GRAPNEL_KERNEL names the table, without it the first one runs") {
  const std::vector<const Table*> tables = grapnel::testing::tables();
  CHECK(chosen_with(nullptr) == tables.front()->name);
  CHECK(chosen_with("") == tables.front()->name);
  for (const Table* table : tables) CHECK(chosen_with(table->name) == table->name);
  CHECK(chosen_with("no such kernel") == "none");
}

TEST_CASE("dispatch: the thread count is what was set, and 0 asks for at least one") {
  set_num_threads(3);
  CHECK(num_threads() == 3);
  set_num_threads(0);
  CHECK(num_threads() >= 1);
}
