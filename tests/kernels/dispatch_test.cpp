// Which table runs: the list's order, and GRAPNEL_KERNEL; which convolution: the shape, and GRAPNEL_CONV.
// Both variables are read once a process, so other values are tried in children.
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

/// What `answer` gives in a process that starts with the variable set to `value` (null: unset).
template <class Answer>
std::string answer_with(const char* variable, const char* value, const Answer& answer) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (value != nullptr) {
      setenv(variable, value, 1);
    } else {
      unsetenv(variable);
    }
    const char* name = answer();
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

/// Name of the table a process chooses, "none" for null.
std::string chosen_with(const char* value) {
  return answer_with("GRAPNEL_KERNEL", value, [] {
    const Table* table = select_cpu();
    return table != nullptr ? table->name : "none";
  });
}

/// How a process computes a convolution of 64 channels.
std::string variant_with(const char* value, std::int64_t size, std::int64_t stride, ConvPass pass) {
  return answer_with("GRAPNEL_CONV", value, [=] {
    const std::int64_t out = (size - 1) / stride + 1;
    const Conv2d shape{1, 64, size, size, 64, 3, 3, out, out, stride, stride, 1, 1, 1, 1, 1};
    return grapnel::testing::tables().front()->f32.conv2d_variant(shape, pass);
  });
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

TEST_CASE("dispatch: GRAPNEL_CONV names the variant where it applies, without it the shape decides") {
  for (const ConvPass pass : {ConvPass::forward, ConvPass::input_grad, ConvPass::weight_grad}) {
    CHECK(variant_with(nullptr, 56, 1, pass) == "winograd4");
    CHECK(variant_with("", 56, 1, pass) == "winograd4");
    CHECK(variant_with(nullptr, 1, 1, pass) == "direct");
    for (const char* name : {"direct", "winograd2", "winograd4", "winograd6"})
      CHECK(variant_with(name, 56, 1, pass) == name);
    // Filters that move by two have two sizes of tile, for the forward pass.
    const bool forward = pass == ConvPass::forward;
    const std::string strided = forward ? "winograd4" : "direct";
    CHECK(variant_with(nullptr, 56, 2, pass) == strided);
    CHECK(variant_with("winograd6", 56, 2, pass) == strided);
    CHECK(variant_with("winograd2", 56, 2, pass) == (forward ? "winograd2" : "direct"));
    CHECK(variant_with("winograd4", 56, 2, pass) == strided);
    CHECK(variant_with("direct", 56, 2, pass) == "direct");
    const bool sums_tiles = pass == ConvPass::weight_grad;  // which few tiles have no loop for
    CHECK(variant_with("winograd4few", 56, 1, pass) == (sums_tiles ? "winograd4" : "winograd4few"));
    CHECK(variant_with("winograd4few", 56, 2, pass) == strided);
  }
}

TEST_CASE("dispatch: the thread count is what was set, and 0 asks for at least one") {
  set_num_threads(3);
  CHECK(num_threads() == 3);
  set_num_threads(0);
  CHECK(num_threads() >= 1);
}
