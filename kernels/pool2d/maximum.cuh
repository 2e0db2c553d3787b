// The maximum of a window, as all GPU kernels that pool find it.
#pragma once

#include <limits>

#include "grapnel/kernels/common/device.cuh"

namespace grapnel::kernels {

/// Of values that are seen one after the other: the first of equals wins, NaN over everything.
template <int width>
struct Maximum {
  device::Vector<float, width> best;
  device::Vector<std::uint8_t, width> winners;  // taps
  bool first = true;

  GRAPNEL_DEVICE Maximum() {
    GRAPNEL_UNROLL for (int k = 0; k < width; ++k) {
      best[k] = -std::numeric_limits<float>::infinity();
      winners[k] = 0;
    }
  }
  GRAPNEL_DEVICE void see(const device::Vector<float, width>& values, int tap) {
    GRAPNEL_UNROLL for (int k = 0; k < width; ++k) {
      if (!(first || values[k] > best[k] || values[k] != values[k])) continue;
      best[k] = values[k];
      winners[k] = static_cast<std::uint8_t>(tap);
    }
    first = false;
  }
};

}  // namespace grapnel::kernels
