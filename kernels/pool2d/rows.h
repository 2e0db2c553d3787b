// The inner loops of max pooling, in vectors of channels: included by portable.cpp, avx2.cpp and avx512.cpp.
#pragma once

#include "grapnel/kernels/common/lanes.h"
#include "grapnel/kernels/pool2d/pool2d.h"

namespace grapnel::kernels {
namespace {

/// Calls body(pixel offset, tap number) for the window's pixels in order.
template <class Body>
inline void for_each_pixel(const PoolWindow& window, const Body& body) {
  for (std::int64_t i = 0; i < window.rows; ++i) {
    for (std::int64_t j = 0; j < window.columns; ++j) {
      body(
          i * window.row_stride + j * window.column_stride,
          static_cast<std::int32_t>(window.first_tap + i * window.tap_row_step + j * window.tap_column_step));
    }
  }
}

/// kVectors vectors of channels, or, with kWhole false, `count` channels of one. NaN beats everything; of
/// several, the last wins (as in PyTorch).
template <int kVectors, bool kWhole, bool kTaps>
inline void maximum_of_block(const PoolWindow& window, float* y, std::uint8_t* taps, const float* x,
                             std::int64_t count = 0) {
  Floats best[kVectors];
  Ints best_tap[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    best[v] = Floats{} - __builtin_inff();
    best_tap[v] = Ints{} + static_cast<std::int32_t>(window.first_tap);
  }
  for_each_pixel(window, [&](std::int64_t pixel, std::int32_t tap) {
    for (int v = 0; v < kVectors; ++v) {
      Floats value;
      load<kWhole>(value, x + pixel + v * kLanes, count);
      const Ints wins = (value > best[v]) | (value != value);
      best[v] = wins ? value : best[v];
      if (kTaps) best_tap[v] = wins ? Ints{} + tap : best_tap[v];
    }
  });
  for (int v = 0; v < kVectors; ++v) {
    store<kWhole>(y + v * kLanes, best[v], count);
    if (kTaps) {
      Bytes winners;
      narrow(winners, best_tap[v]);
      store<kWhole>(taps + v * kLanes, winners, count);
    }
  }
}

template <bool kTaps>
inline void maximum_of_channels(const PoolWindow& window, std::int64_t channels, float* y, std::uint8_t* taps,
                                const float* x) {
  std::int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) {
    maximum_of_block<4, true, kTaps>(window, y + c, taps + c, x + c);
  }
  for (; c + kLanes <= channels; c += kLanes)
    maximum_of_block<1, true, kTaps>(window, y + c, taps + c, x + c);
  if (c < channels) maximum_of_block<1, false, kTaps>(window, y + c, taps + c, x + c, channels - c);
}

void maximum(const PoolWindow& window, std::int64_t channels, float* y, std::uint8_t* taps, const float* x) {
  if (taps != nullptr) {
    maximum_of_channels<true>(window, channels, y, taps, x);
  } else {
    maximum_of_channels<false>(window, channels, y, taps, x);
  }
}

template <int kVectors, bool kWhole>
inline void collect_block(const PoolWindow& window, float* dx, const float* dy, const std::uint8_t* taps,
                          std::int64_t count = 0) {
  Floats total[kVectors] = {};
  for_each_pixel(window, [&](std::int64_t pixel, std::int32_t tap) {
    for (int v = 0; v < kVectors; ++v) {
      Floats gradient;
      Bytes winner;
      load<kWhole>(gradient, dy + pixel + v * kLanes, count);
      load<kWhole>(winner, taps + pixel + v * kLanes, count);
      Ints winning_tap;
      widen(winning_tap, winner);
      total[v] += winning_tap == tap ? gradient : Floats{};
    }
  });
  for (int v = 0; v < kVectors; ++v) store<kWhole>(dx + v * kLanes, total[v], count);
}

void collect(const PoolWindow& window, std::int64_t channels, float* dx, const float* dy,
             const std::uint8_t* taps) {
  std::int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes)
    collect_block<4, true>(window, dx + c, dy + c, taps + c);
  for (; c + kLanes <= channels; c += kLanes) collect_block<1, true>(window, dx + c, dy + c, taps + c);
  if (c < channels) collect_block<1, false>(window, dx + c, dy + c, taps + c, channels - c);
}

}  // namespace
}  // namespace grapnel::kernels
