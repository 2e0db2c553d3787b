#include "grapnel/kernels/conv2d/preference.h"

#include <cstdlib>
#include <map>
#include <string>
#include <utility>

namespace grapnel::kernels {
namespace {

using Preferences = std::map<std::pair<Conv2d, ConvPass>, std::string>;

Preferences& preferences() {
  static Preferences all;
  return all;
}

}  // namespace

void prefer_conv2d(const Conv2d& shape, ConvPass pass, const char* variant) {
  if (variant)
    preferences()[{shape, pass}] = variant;
  else
    preferences().erase({shape, pass});
}

const char* preferred_conv2d(const Conv2d& shape, ConvPass pass) {
  static const char* const forced = std::getenv("GRAPNEL_CONV");
  if (forced && *forced) return forced;
  if (preferences().empty()) return "";
  const auto found = preferences().find({shape, pass});
  return found == preferences().end() ? "" : found->second.c_str();
}

}  // namespace grapnel::kernels
