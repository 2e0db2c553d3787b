// Mean and biased variance of each channel on a GPU: of values in memory, or of what convolutions left of
// theirs.
#pragma once

#include <cmath>

#include "grapnel/kernels/common/fold.cuh"
#include "grapnel/kernels/common/parts.cuh"

namespace grapnel::kernels {

/// The first two moments about a pivot near the data, the first row: nothing is lost in double, however far
/// the mean is from zero.
template <class T>
struct Moments {
  std::int64_t rows, channels;
  const T* x;

  GRAPNEL_DEVICE float value(std::int64_t i) const {
    return float_of(device::load(device::Global<const T>(x), i));
  }
  GRAPNEL_DEVICE double pivot(std::int64_t c) const {
    const float first = value(c);
    return std::isfinite(first) ? first : 0;
  }
  GRAPNEL_DEVICE void operator()(std::int64_t r, std::int64_t c, double* totals) const {
    const double d = value(r * channels + c) - pivot(c);
    totals[0] += d;
    totals[1] += d * d;
  }
};

/// The same of pieces of `length` rows, the last may be shorter: pieces[i] = (2, channels), each piece's mean
/// and the sum of squares about it. Wanted is the mean of values that are larger by bias, which may be null.
struct PieceMoments {
  std::int64_t rows, channels, length;
  const float *pieces, *bias;

  GRAPNEL_DEVICE double value(std::int64_t i) const {
    return device::load(device::Global<const float>(pieces), i);
  }
  GRAPNEL_DEVICE double pivot(std::int64_t c) const {
    const double first = value(c);
    return std::isfinite(first) ? first : 0;
  }
  GRAPNEL_DEVICE void operator()(std::int64_t piece, std::int64_t c, double* totals) const {
    const std::int64_t left = rows - piece * length;
    const auto count = static_cast<double>(left < length ? left : length);
    const double d = value(2 * piece * channels + c) - pivot(c);
    totals[0] += count * d;
    totals[1] += value((2 * piece + 1) * channels + c) + count * d * d;
  }
};

template <class Of>
struct FinishMoments {
  Of of;
  float *mean, *variance;

  GRAPNEL_DEVICE void operator()(std::int64_t c, const double* totals) const {
    const double count = static_cast<double>(of.rows), shift = totals[0] / count;
    const double spread = totals[1] / count - shift * shift;
    double centre = (of.rows > 0 ? of.pivot(c) : 0) + shift;
    if constexpr (requires { of.bias; })
      if (of.bias) centre += device::load(device::Global<const float>(of.bias), c);
    device::store(device::Global<float>(mean), c, static_cast<float>(centre));
    device::store(device::Global<float>(variance), c, static_cast<float>(spread < 0 ? 0 : spread));
  }
};

template <class T>
void channel_moments(std::int64_t rows, std::int64_t channels, float* mean, float* variance, const T* x) {
  const Moments<T> moments{rows, channels, x};
  fold_columns_of<2>("batch norm's statistics", rows, channels, 0, Add{}, moments,
                     FinishMoments<Moments<T>>{moments, mean, variance});
}

inline void moments_of_pieces(const PieceMoments& moments, float* mean, float* variance) {
  fold_columns_of<2>("batch norm's statistics", (moments.rows + moments.length - 1) / moments.length,
                     moments.channels, 0, Add{}, moments,
                     FinishMoments<PieceMoments>{moments, mean, variance});
}

}  // namespace grapnel::kernels
