#include "grapnel/kernels/conv2d/band.h"

#include <algorithm>
#include <cstring>

#include "grapnel/kernels/common/scratch.h"

namespace grapnel::kernels {
namespace {

/// Input positions that outputs [out) read.
Range reach(const Axis& axis, Range out) {
  const std::int64_t begin = out.begin * axis.stride + axis.first;
  return {begin, begin + (out.size() - 1) * axis.stride +
                     (std::max<std::int64_t>(axis.taps, 1) - 1) * axis.step + 1};
}

bool inside(const Axis& axis) {
  const Range range = reach(axis, {0, axis.out});
  return range.begin >= 0 && range.end <= axis.in;
}

void zero(float* to, std::int64_t count) {
  std::memset(to, 0, static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace

InputReader::InputReader(const Axis& h, const Axis& w, std::int64_t channels, const float* data)
    : h_(h),
      w_(w),
      channels_(channels),
      data_(data),
      columns_(reach(w, {0, w.out})),
      inside_(inside(h) && inside(w)) {}

std::int64_t InputReader::floats_per_row() const {
  return columns_.size() * h_.stride * channels_;
}

BandInput InputReader::read(const Band& band) const {
  const Range rows = reach(h_, band.rows);
  if (inside_) {
    const std::int64_t row = w_.in * channels_, image = h_.in * row;
    return {data_ + band.images.begin * image + rows.begin * row + columns_.begin * channels_, row, image};
  }
  const std::int64_t row = columns_.size() * channels_, image = rows.size() * row;
  static thread_local Scratch<float> scratch;
  float* to = scratch.get(static_cast<std::size_t>(band.images.size() * image));
  const BandInput result{to, row, image};

  const std::int64_t from_column = std::clamp<std::int64_t>(columns_.begin, 0, w_.in);
  const std::int64_t to_column = std::clamp<std::int64_t>(columns_.end, from_column, w_.in);
  const std::int64_t before = std::min(from_column - columns_.begin, columns_.size()) * channels_;
  const std::int64_t middle = (to_column - from_column) * channels_;
  for (std::int64_t n = band.images.begin; n < band.images.end; ++n) {
    for (std::int64_t h = rows.begin; h < rows.end; ++h, to += row) {
      if (h < 0 || h >= h_.in || middle == 0) {
        zero(to, row);
        continue;
      }
      zero(to, before);
      std::memcpy(to + before, data_ + ((n * h_.in + h) * w_.in + from_column) * channels_,
                  static_cast<std::size_t>(middle) * sizeof(float));
      zero(to + before + middle, row - before - middle);
    }
  }
  return result;
}

}  // namespace grapnel::kernels
