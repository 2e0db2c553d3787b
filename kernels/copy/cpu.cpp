// Strided, converting and transposing copies.
//
// The order in which elements are copied is free, so the nest is first turned until its planes are easy: both
// operands dense along the columns, or, where their orders differ (NCHW <-> NHWC), the destination along the
// columns and the source along the rows.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "grapnel/kernels/common/loop_nest.h"
#include "grapnel/kernels/copy/convert.h"
#include "grapnel/kernels/copy/copy.h"
#include "grapnel/kernels/copy/transpose.h"

namespace grapnel::kernels {
namespace {

/// Moves dimension `from` to place `to`, keeping the order of the others.
void move_dimension(Loops<2>& loops, int from, int to) {
  const auto rotate = [&](std::int64_t* values) {
    if (from < to) std::rotate(values + from, values + from + 1, values + to + 1);
    if (from > to) std::rotate(values + to, values + from, values + from + 1);
  };
  rotate(loops.sizes);
  for (auto& strides : loops.strides) rotate(strides);
}

/// The dimension along which an operand is dense, or -1.
int dense_dimension(const Loops<2>& loops, int operand) {
  for (int d = loops.rank - 1; d >= 0; --d) {
    if (loops.sizes[d] > 1 && loops.strides[operand][d] == 1) return d;
  }
  return -1;
}

Loops<2> easiest_order(Loops<2> loops) {
  const int last = loops.rank - 1;
  const int dense_in_dst = dense_dimension(loops, 0);
  if (dense_in_dst >= 0) move_dimension(loops, dense_in_dst, last);
  const int dense_in_src = dense_dimension(loops, 1);
  if (dense_in_src >= 0 && dense_in_src != last) move_dimension(loops, dense_in_src, last - 1);
  return loops;
}

template <class To, class From>
void copy_row(std::int64_t count, To* dst, std::int64_t dst_step, const From* src, std::int64_t src_step) {
  if (dst_step == 1 && src_step == 1) {
    if constexpr (std::is_same_v<To, From>) {
      std::memcpy(dst, src, static_cast<std::size_t>(count) * sizeof(To));
    } else {
      for (std::int64_t i = 0; i < count; ++i) dst[i] = convert<To>(src[i]);
    }
  } else if (dst_step == 1 && src_step == 0) {
    std::fill_n(dst, count, convert<To>(*src));
  } else {
    for (std::int64_t i = 0; i < count; ++i) dst[i * dst_step] = convert<To>(src[i * src_step]);
  }
}

template <class To, class From>
void copy_plane(const Plane<2>& plane, To* dst, const From* src) {
  const auto [dst_row, src_row] = plane.row_stride;
  const auto [dst_step, src_step] = plane.column_stride;
  if (plane.rows > 1 && dst_step == 1 && src_row == 1) {
    return copy_transposed(plane.rows, plane.columns, dst, dst_row, src, src_step);
  }
  for (std::int64_t r = 0; r < plane.rows; ++r) {
    copy_row(plane.columns, dst + r * dst_row, dst_step, src + r * src_row, src_step);
  }
}

template <class To, class From>
void copy_typed(const Loops<2>& loops, void* dst, const void* src) {
  parallel_walk(loops, [&](const Plane<2>& plane, const std::int64_t* offsets) {
    copy_plane(plane, static_cast<To*>(dst) + offsets[0], static_cast<const From*>(src) + offsets[1]);
  });
}

void copy(const Loops<2>& loops, void* dst, DType dst_type, const void* src, DType src_type) {
  const Loops<2> ordered = easiest_order(loops);
  with_type(dst_type, [&](auto to) {
    with_type(src_type, [&](auto from) { copy_typed<decltype(to), decltype(from)>(ordered, dst, src); });
  });
}

void copy_reference(const Loops<2>& loops, void* dst, DType dst_type, const void* src, DType src_type) {
  with_type(dst_type, [&](auto to) {
    with_type(src_type, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      for (std::int64_t i = 0; i < element_count(loops); ++i) {
        const std::int64_t d = offset_of(loops, 0, i), s = offset_of(loops, 1, i);
        static_cast<To*>(dst)[d] = convert<To>(static_cast<const From*>(src)[s]);
      }
    });
  });
}

}  // namespace

void fill_copy(Table& table, Isa isa) {
  table.copy = isa == Isa::reference ? copy_reference : copy;
}

}  // namespace grapnel::kernels
