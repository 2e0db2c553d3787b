// The inner loops of max pooling, for the compiler to vectorise: included by portable.cpp, avx2.cpp and
// avx512.cpp.
#pragma once

#include "grapnel/kernels/pool2d/pool2d.h"

namespace grapnel::kernels {
namespace {

/// Channels whose running maximum stays in registers while the window goes by.
constexpr std::int64_t kChannels = 16;

/// Maximum of `kWidth` channels; the last NaN of a window wins, as in PyTorch.
template <std::int64_t kWidth>
void maximum_of_block(const PoolWindow& window, float* y, std::uint8_t* taps, const float* x) {
  float best[kWidth];
  std::int32_t best_tap[kWidth];
  for (int c = 0; c < kWidth; ++c) best[c] = -__builtin_inff();
  for (int c = 0; c < kWidth; ++c) best_tap[c] = static_cast<std::int32_t>(window.first_tap);
  for (std::int64_t i = 0; i < window.rows; ++i) {
    for (std::int64_t j = 0; j < window.columns; ++j) {
      const float* pixel = x + i * window.row_stride + j * window.column_stride;
      const auto tap =
          static_cast<std::int32_t>(window.first_tap + i * window.tap_row_step + j * window.tap_column_step);
      for (int c = 0; c < kWidth; ++c) {
        const bool wins = (pixel[c] > best[c]) | (pixel[c] != pixel[c]);
        best[c] = wins ? pixel[c] : best[c];
        best_tap[c] = wins ? tap : best_tap[c];
      }
    }
  }
  for (int c = 0; c < kWidth; ++c) y[c] = best[c];
  if (taps == nullptr) return;
  for (int c = 0; c < kWidth; ++c) taps[c] = static_cast<std::uint8_t>(best_tap[c]);
}

template <std::int64_t kWidth>
void collect_block(const PoolWindow& window, float* dx, const float* dy, const std::uint8_t* taps) {
  float total[kWidth] = {};
  for (std::int64_t i = 0; i < window.rows; ++i) {
    for (std::int64_t j = 0; j < window.columns; ++j) {
      const std::int64_t pixel = i * window.row_stride + j * window.column_stride;
      const auto tap =
          static_cast<std::uint8_t>(window.first_tap + i * window.tap_row_step + j * window.tap_column_step);
      for (int c = 0; c < kWidth; ++c) total[c] += taps[pixel + c] == tap ? dy[pixel + c] : 0.0f;
    }
  }
  for (int c = 0; c < kWidth; ++c) dx[c] = total[c];
}

void maximum(const PoolWindow& window, std::int64_t channels, float* y, std::uint8_t* taps, const float* x) {
  std::int64_t c = 0;
  for (; c + kChannels <= channels; c += kChannels) {
    maximum_of_block<kChannels>(window, y + c, taps ? taps + c : nullptr, x + c);
  }
  for (; c < channels; ++c) maximum_of_block<1>(window, y + c, taps ? taps + c : nullptr, x + c);
}

void collect(const PoolWindow& window, std::int64_t channels, float* dx, const float* dy,
             const std::uint8_t* taps) {
  std::int64_t c = 0;
  for (; c + kChannels <= channels; c += kChannels)
    collect_block<kChannels>(window, dx + c, dy + c, taps + c);
  for (; c < channels; ++c) collect_block<1>(window, dx + c, dy + c, taps + c);
}

}  // namespace
}  // namespace grapnel::kernels
