// Max, average and adaptive average pooling over channels-last pictures. Read next: rows.h (the maximum of
// one window), max.cpp, average.cpp.
#pragma once

#include <cstdint>

#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// A rectangle of pixels of one picture, each a dense vector of channels. Pixel (i, j) starts at i *
/// row_stride + j * column_stride from the first one and has the tap number first_tap + i * tap_row_step + j
/// * tap_column_step.
struct PoolWindow {
  std::int64_t rows, columns;
  std::int64_t row_stride, column_stride;
  std::int64_t first_tap, tap_row_step, tap_column_step;
};

/// The loops over one window, compiled once per instruction set.
struct MaxPoolRows {
  // y[c] = maximum over the window's pixels, taps[c] = its tap number (taps may be null).
  void (*maximum)(const PoolWindow& window, std::int64_t channels, float* y, std::uint8_t* taps,
                  const float* x);
  // dx[c] = sum of dy[c] over those pixels of the window whose taps[c] equals the pixel's tap number.
  void (*collect)(const PoolWindow& window, std::int64_t channels, float* dx, const float* dy,
                  const std::uint8_t* taps);
};

extern const MaxPoolRows max_pool_portable, max_pool_avx2, max_pool_avx512;

/// `count` positions along an axis, `step` apart from `first`, and the tap (window position along this axis)
/// of the first.
struct PoolRange {
  std::int64_t first, count, first_tap;
};

/// Max pooling line by line. Lives in memory of the thread that made it, until that makes the next one.
class MaxPool {
 public:
  MaxPool(const MaxPoolRows& kernel, const Pool2d& shape);

  /// The rows of an image between which the windows of line `oh` lie.
  Range rows_of(std::int64_t oh) const;
  /// y (ow, c), and taps unless null. x: the first of rows_of(oh).
  void line(std::int64_t oh, float* y, std::uint8_t* taps, const float* x) const;

 private:
  const MaxPoolRows& kernel_;
  Pool2d shape_;
  const PoolRange* columns_;
};

void fill_pool2d(FloatKernels<float>& table, Isa isa);
void fill_pool2d(FloatKernels<double>& table, Isa isa);

// The averages' part of fill_pool2d.
void fill_avg_pool2d(FloatKernels<float>& table, Isa isa);
void fill_avg_pool2d(FloatKernels<double>& table, Isa isa);

}  // namespace grapnel::kernels
