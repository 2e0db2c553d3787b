// What tests of planted faults share.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "cuda_host/model.h"

namespace grapnel::cuda_host {

/// The message of the fault that `body` makes; "none" if it makes none.
inline std::string fault_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "none";
}

inline void check_has(const std::string& message, const char* part) {
  INFO(message);
  const bool found = message.find(part) != std::string::npos;
  CHECK(found);
}

}  // namespace grapnel::cuda_host
