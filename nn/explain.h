// Which hooks fired, in which order, and why the others did not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "grapnel/nn/module.h"

namespace grapnel::nn {

/// What became of one hook.
struct HookReport {
  std::string hook;         ///< `full backward hook "grad" of layer4.1 (BasicBlock)`
  std::uint64_t fired = 0;  ///< how often since it was registered
  /// Its place among all that fired in the last call of their module, or since in a backward pass; from 1. 0
  /// if it did not.
  std::size_t order = 0;
  bool removed = false;
  std::string reason;  ///< why it did not; empty if it did
};

/// Of the module and its descendants, those that fired first and in order, then the others in the order of
/// registration. Of the removed ones each module remembers the last few; global hooks are not listed.
std::vector<HookReport> hook_reports(Module& module);

/// The same as text, a line each.
std::string explain_hooks(Module& module);

}  // namespace grapnel::nn
