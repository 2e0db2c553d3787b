// A convolution's sizes as kernels want them: in ints, with what indices are divided by ready for it.
#pragma once

#include <limits>

#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {

/// An int that others, 0 to 2^31 - 1, are divided by: a multiplication and a shift in place of the 20 or so
/// instructions of a division. With m = floor(2^(31 + l) / d) + 1 and 2^l >= d, n m / 2^(31 + l) exceeds n /
/// d by less than 1 / d.
class Divisor {
 public:
  /// 0, of a size that nothing is divided by, is taken as 1.
  Divisor(std::int64_t value) : value_(static_cast<int>(value)) {
    const std::uint64_t d = value > 0 ? static_cast<std::uint64_t>(value) : 1;
    while (std::uint64_t{1} << (shift_ - 31) < d) ++shift_;
    factor_ = static_cast<std::uint32_t>((std::uint64_t{1} << shift_) / d + 1);
  }
  constexpr operator int() const { return value_; }

  GRAPNEL_DEVICE friend int operator/(int n, Divisor d) {
    return static_cast<int>(std::uint64_t{static_cast<std::uint32_t>(n)} * d.factor_ >> d.shift_);
  }
  GRAPNEL_DEVICE friend int operator%(int n, Divisor d) { return n - n / d * d.value_; }

 private:
  int value_, shift_ = 31;
  std::uint32_t factor_;
};

/// Conv2d, and a group's channels.
struct ConvShape {
  int n, c;
  Divisor h, w;
  int k, r;
  Divisor s, oh, ow, stride_h, stride_w;
  int pad_h, pad_w, dil_h, dil_w, groups;
  Divisor c_group, k_group;
};

/// Throws DeviceFault for more pixels or weights than an int counts.
inline ConvShape conv_shape(const Conv2d& p) {
  for (const std::int64_t size : {p.n * p.h * p.w, p.n * p.oh * p.ow, p.k * (p.c / p.groups) * p.r * p.s})
    if (size > std::numeric_limits<int>::max())
      throw DeviceFault("conv2d: " + std::to_string(size) +
                        " pixels or weights at once; use a smaller batch");
  const auto i = [](std::int64_t value) { return static_cast<int>(value); };
  return {.n = i(p.n),
          .c = i(p.c),
          .h = p.h,
          .w = p.w,
          .k = i(p.k),
          .r = i(p.r),
          .s = p.s,
          .oh = p.oh,
          .ow = p.ow,
          .stride_h = p.stride_h,
          .stride_w = p.stride_w,
          .pad_h = i(p.pad_h),
          .pad_w = i(p.pad_w),
          .dil_h = i(p.dil_h),
          .dil_w = i(p.dil_w),
          .groups = i(p.groups),
          .c_group = p.c / p.groups,
          .k_group = p.k / p.groups};
}

struct Pixel {
  int n, h, w;
};
GRAPNEL_DEVICE Pixel pixel_of(int i, Divisor height, Divisor width) {
  const int row = i / width;
  return {row / height, row % height, i % width};
}

/// (r, s, channel) of a flat index, `channels` to a tap.
struct Tap {
  int r, s, channel;
};
GRAPNEL_DEVICE Tap tap_of(int i, Divisor width, Divisor channels) {
  const int tap = i / channels;
  return {tap / width, tap % width, i % channels};
}

}  // namespace grapnel::kernels
