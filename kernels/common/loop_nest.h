// Walking a loop nest of any rank as a sequence of planes (its last two dimensions), from any flat index to
// any other, so that threads can share it evenly whatever its shape.
#pragma once

#include <algorithm>
#include <cstdint>

#include "grapnel/kernels/common/plane.h"
#include "grapnel/kernels/kernels.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {

/// Elements a thread should get at least when the work per element is small.
inline constexpr std::int64_t kGrain = 32 * 1024;

template <int Operands>
std::int64_t element_count(const Loops<Operands>& loops) {
  std::int64_t count = 1;
  for (int d = 0; d < loops.rank; ++d) count *= loops.sizes[d];
  return count;
}

/// Where element `flat` (row-major over the nest) of one operand lies.
template <int Operands>
std::int64_t offset_of(const Loops<Operands>& loops, int operand, std::int64_t flat) {
  std::int64_t offset = 0;
  for (int d = loops.rank - 1; d >= 0; --d) {
    offset += flat % loops.sizes[d] * loops.strides[operand][d];
    flat /= loops.sizes[d];
  }
  return offset;
}

/// Calls body(plane, offsets) for planes that together cover the flat indices [begin, end) of the nest in
/// order; offsets[k] is the first element of the plane in operand k.
template <int Operands, class Body>
void walk(const Loops<Operands>& loops, std::int64_t begin, std::int64_t end, const Body& body) {
  if (begin >= end) return;
  const int last = loops.rank - 1;
  const std::int64_t row_length = loops.sizes[last];
  std::int64_t index[kMaxRank];
  std::int64_t rest = begin;
  for (int d = last; d >= 0; --d) {
    index[d] = rest % loops.sizes[d];
    rest /= loops.sizes[d];
  }
  Plane<Operands> plane;
  for (int k = 0; k < Operands; ++k) {
    plane.row_stride[k] = last > 0 ? loops.strides[k][last - 1] : 0;
    plane.column_stride[k] = loops.strides[k][last];
  }
  while (begin < end) {
    int advanced = last;
    plane.rows = 1;
    plane.columns = std::min(row_length - index[last], end - begin);
    if (last > 0 && plane.columns == row_length) {
      advanced = last - 1;
      plane.rows = std::min(loops.sizes[last - 1] - index[last - 1], (end - begin) / row_length);
    }
    std::int64_t offsets[Operands] = {};
    for (int k = 0; k < Operands; ++k) {
      for (int d = 0; d <= last; ++d) offsets[k] += index[d] * loops.strides[k][d];
    }
    body(plane, offsets);

    begin += plane.rows * plane.columns;
    index[advanced] += advanced == last ? plane.columns : plane.rows;
    for (int d = advanced; d > 0 && index[d] == loops.sizes[d]; --d) {
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

/// walk() over the whole nest, shared between the threads.
template <int Operands, class Body>
void parallel_walk(const Loops<Operands>& loops, const Body& body) {
  parallel_for(element_count(loops), kGrain,
               [&](std::int64_t begin, std::int64_t end) { walk(loops, begin, end, body); });
}

}  // namespace grapnel::kernels
