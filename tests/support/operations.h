// Every operation of engine/ops.h on small tensors: for central differences in float64
// (../engine/gradcheck_test.cpp) and for the comparison of devices in float32
// (../devices/operations_test.cpp).
#pragma once

#include <string>
#include <vector>

#include "support/gradcheck.h"

namespace grapnel::testing {

struct Operation {
  std::string name;
  Function f;
  Tensors inputs;  // of the finest type; differentiated where they require a gradient
};

struct OperationGroup {
  std::string name;
  std::vector<Operation> operations;
};

/// The last group gives no gradients.
std::vector<OperationGroup> operation_groups();

/// Two of them.
std::vector<Operation> shapes();
std::vector<Operation> in_place();

}  // namespace grapnel::testing
