// Shares the rows between threads and hands them to the loops of one instruction set (rows.h).
#include <algorithm>
#include <cmath>

#include "grapnel/kernels/batch_norm/batch_norm.h"
#include "grapnel/kernels/batch_norm/reference.h"
#include "grapnel/kernels/common/fold_columns.h"
#include "grapnel/kernels/common/loop_nest.h"
#include "grapnel/kernels/common/scratch.h"

namespace grapnel::kernels {
namespace {

std::int64_t rows_per_thread(std::int64_t channels) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(channels, 1));
}

double add(double total, double part) {
  return total + part;
}

template <const BatchNormRows& kernel>
void channel_epilogue(std::int64_t rows, std::int64_t channels, float* y, const float* x,
                      const Epilogue<float>& epilogue) {
  parallel_for(rows, rows_per_thread(channels), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t offset = begin * channels;
    kernel.finish(end - begin, channels, y + offset, x + offset, from(epilogue, 0, offset));
  });
}

template <const BatchNormRows& kernel>
void channel_blend(std::int64_t rows, std::int64_t channels, float* dx, const float* dy, const float* x,
                   const float* mean, const float* a, const float* b, const float* d) {
  parallel_for(rows, rows_per_thread(channels), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t offset = begin * channels;
    kernel.blend(end - begin, channels, dx + offset, dy + offset, x + offset, mean, a, b, d);
  });
}

// One pass: moments about a pivot near the data, the first row, lose nothing in double however far the mean
// is from zero.
template <const BatchNormRows& kernel>
void channel_moments(std::int64_t rows, std::int64_t channels, float* mean, float* variance, const float* x) {
  if (rows == 0) return reference::channel_moments(rows, channels, mean, variance, x);
  static thread_local Scratch<float> scratch;
  float* pivot = scratch.get(static_cast<std::size_t>(channels));
  for (std::int64_t c = 0; c < channels; ++c) pivot[c] = std::isfinite(x[c]) ? x[c] : 0;
  fold_columns<2>(
      rows, channels, 0, add,
      [&](std::int64_t begin, std::int64_t end, std::int64_t column, std::int64_t width, double* totals) {
        kernel.moments(end - begin, channels, width, totals, totals + width, x + begin * channels + column,
                       pivot + column);
      },
      [&](std::int64_t column, std::int64_t width, const double* totals) {
        const double count = static_cast<double>(rows);
        for (std::int64_t c = 0; c < width; ++c) {
          const double shift = totals[c] / count, spread = totals[width + c] / count - shift * shift;
          mean[column + c] = static_cast<float>(pivot[column + c] + shift);
          variance[column + c] = static_cast<float>(spread < 0 ? 0 : spread);
        }
      });
}

template <const BatchNormRows& kernel>
void channel_dots(std::int64_t rows, std::int64_t channels, float* sum_dy, float* dot, const float* dy,
                  const float* x, const float* mean) {
  fold_columns<2>(
      rows, channels, 0, add,
      [&](std::int64_t begin, std::int64_t end, std::int64_t column, std::int64_t width, double* totals) {
        const std::int64_t offset = begin * channels + column;
        kernel.dots(end - begin, channels, width, totals, totals + width, dy + offset, x + offset,
                    mean + column);
      },
      [&](std::int64_t column, std::int64_t width, const double* totals) {
        for (std::int64_t c = 0; c < width; ++c) sum_dy[column + c] = static_cast<float>(totals[c]);
        for (std::int64_t c = 0; c < width; ++c) dot[column + c] = static_cast<float>(totals[width + c]);
      });
}

/// What works on a value a channel, once a layer.
template <class T>
void fill_vectors(FloatKernels<T>& table) {
  table.channel_affine = reference::channel_affine<T>;
  table.channel_factors = reference::channel_factors<T>;
  table.channel_average = reference::channel_average<T>;
}

template <const BatchNormRows& kernel>
void fill(FloatKernels<float>& table) {
  fill_vectors(table);
  table.channel_moments = channel_moments<kernel>;
  table.channel_epilogue = channel_epilogue<kernel>;
  table.channel_dots = channel_dots<kernel>;
  table.channel_blend = channel_blend<kernel>;
}

template <class T>
void fill_reference(FloatKernels<T>& table) {
  fill_vectors(table);
  table.channel_moments = reference::channel_moments<T>;
  table.channel_epilogue = reference::channel_epilogue<T>;
  table.channel_dots = reference::channel_dots<T>;
  table.channel_blend = reference::channel_blend<T>;
}

}  // namespace

void fill_batch_norm(FloatKernels<float>& table, Isa isa) {
  switch (isa) {
    case Isa::reference:
      return fill_reference(table);
    case Isa::portable:
      return fill<batch_norm_portable>(table);
    case Isa::avx2:
      return fill<batch_norm_avx2>(table);
    case Isa::avx512:
      return fill<batch_norm_avx512>(table);
  }
}

void fill_batch_norm(FloatKernels<double>& table, Isa) {
  fill_reference(table);
}

}  // namespace grapnel::kernels
