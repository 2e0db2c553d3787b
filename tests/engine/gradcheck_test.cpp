// Every differentiable operation against central differences, first and second derivatives.
#include <doctest/doctest.h>

#include <fstream>
#include <regex>
#include <sstream>

#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"
#include "support/device.h"
#include "support/operations.h"

using namespace grapnel;
using testing::gradcheck;
using testing::gradgradcheck;
using testing::leaf;

namespace {

const testing::Limit kDouble = testing::on_cpu_only("float64; devices: ../devices/operations_test.cpp");

void check(const std::string& group) {
  for (const auto& [name, operations] : testing::operation_groups())
    if (name == group)
      for (const testing::Operation& operation : operations) {
        CAPTURE(operation.name);
        CHECK_EQ(gradcheck(operation.f, operation.inputs), "");
        CHECK_EQ(gradgradcheck(operation.f, operation.inputs), "");
      }
}

std::string text_of(const std::string& path) {
  std::ifstream file(std::string(GRAPNEL_TEST_DIR) + "/" + path);
  REQUIRE(file);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("[hook-48] arithmetic, broadcast in every direction" * kDouble) {
  check("arithmetic, broadcast in every direction");
}

TEST_CASE("[hook-48] functions of one tensor" * kDouble) {
  check("functions of one tensor");
}

TEST_CASE("[hook-48] reductions" * kDouble) {
  check("reductions");
}

TEST_CASE("[hook-48] matrix products" * kDouble) {
  check("matrix products");
}

TEST_CASE("[hook-48] convolution and its two gradient operations" * kDouble) {
  check("convolution and its two gradient operations");
}

TEST_CASE("[hook-48] pooling and resampling" * kDouble) {
  check("pooling and resampling");
}

TEST_CASE("[hook-48] batch norm, training and evaluation" * kDouble) {
  check("batch norm, training and evaluation");
}

TEST_CASE("[hook-48] softmax and losses" * kDouble) {
  check("softmax and losses");
}

TEST_CASE("[hook-48] views, joins and indices" * kDouble) {
  check("views, joins and indices");
}

TEST_CASE("[hook-48] in-place operations, on tensors, on views and on their bases" * kDouble) {
  check("in-place operations, on tensors, on views and on their bases");
}

TEST_CASE("every operation of ops.h is among those that are checked" * testing::on_cpu_only("files")) {
  const std::string header = text_of("../engine/ops.h");
  const std::string cases = text_of("support/operations.cpp") + text_of("support/shape_operations.cpp");
  const std::regex declaration("\n(?:const )?(?:Tensors?|std::pair<Tensor, Tensor>)&? (\\w+)\\(");
  int count = 0;
  for (std::sregex_iterator found(header.begin(), header.end(), declaration), end; found != end;
       ++found, ++count) {
    const std::string name = (*found)[1];
    CAPTURE(name);
    CHECK(std::regex_search(cases, std::regex("\\b" + name + "\\(|\\{\"" + name + "\"")));
  }
  CHECK(count > 60);
}

TEST_CASE("[hook-48] the checker rejects a wrong gradient" *
          testing::on_cpu_only("float64; devices follow in ../devices/operations_test.cpp")) {
  const auto wrong = [](const Tensors& t) {
    return record("wrong", exp(t[0].detach()), {t[0]}, {t[0]},
                  [](const Backward& ctx) -> Tensors { return {ctx.grad() * exp(ctx.saved(0)) * 1.0001}; });
  };
  CHECK_NE(gradcheck(wrong, {leaf({3}, 1)}), "");
  const auto wrong_second = [](const Tensors& t) {
    return record("wrong", t[0].detach() * t[0].detach(), {t[0]}, {t[0]}, [](const Backward& ctx) -> Tensors {
      return {ctx.grad() * (ctx.saved(0) * 2.0).detach()};
    });
  };
  CHECK_EQ(gradcheck(wrong_second, {leaf({3}, 1)}), "");
  CHECK_NE(gradgradcheck(wrong_second, {leaf({3}, 1)}), "");
}
