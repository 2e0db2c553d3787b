// Strided, converting and transposing copies.
//
// The order in which elements are copied is free, so the nest is first turned until its planes are easy: both
// operands dense along the columns, or, where their orders differ (NCHW <-> NHWC), the destination along the
// columns and the source along the rows.
#include <algorithm>
#include <cstddef>
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

// --- one type ---

template <class T>
void move_plane(const Plane<2>& plane, T* dst, const T* src) {
  const auto [dst_row, src_row] = plane.row_stride;
  const auto [dst_step, src_step] = plane.column_stride;
  const std::int64_t columns = plane.columns;
  if (plane.rows > 1 && dst_step == 1 && src_row == 1) {
    return copy_transposed(plane.rows, columns, dst, dst_row, src, src_step);
  }
  for (std::int64_t r = 0; r < plane.rows; ++r, dst += dst_row, src += src_row) {
    if (dst_step == 1 && src_step == 1) {
      std::memcpy(dst, src, static_cast<std::size_t>(columns) * sizeof(T));
    } else if (dst_step == 1 && src_step == 0) {
      std::fill_n(dst, columns, *src);
    } else {
      for (std::int64_t c = 0; c < columns; ++c) dst[c * dst_step] = src[c * src_step];
    }
  }
}

void move(const Loops<2>& loops, void* dst, const void* src, DType type) {
  with_type(type, [&](auto element) {
    using T = decltype(element);
    parallel_walk(easiest_order(loops), [&](const Plane<2>& plane, const std::int64_t* offsets) {
      move_plane(plane, static_cast<T*>(dst) + offsets[0], static_cast<const T*>(src) + offsets[1]);
    });
  });
}

// --- two types ---

/// Converts `count` elements that lie `step` elements apart.
using ConvertRow = void (*)(std::int64_t count, void* dst, std::int64_t dst_step, const void* src,
                            std::int64_t src_step);

template <class To, class From>
void convert_row(std::int64_t count, void* dst, std::int64_t dst_step, const void* src,
                 std::int64_t src_step) {
  To* to = static_cast<To*>(dst);
  const From* from = static_cast<const From*>(src);
  for (std::int64_t i = 0; i < count; ++i) to[i * dst_step] = convert<To>(from[i * src_step]);
}

struct Conversion {
  ConvertRow row;
  std::size_t dst_size, src_size;  // bytes of an element
};

Conversion conversion(DType to, DType from) {
  Conversion result{};
  with_type(to, [&](auto t) {
    with_type(from, [&](auto f) { result = {convert_row<decltype(t), decltype(f)>, sizeof t, sizeof f}; });
  });
  return result;
}

void convert_elements(const Loops<2>& loops, void* dst, const void* src, const Conversion& types) {
  parallel_walk(easiest_order(loops), [&](const Plane<2>& plane, const std::int64_t* offsets) {
    for (std::int64_t r = 0; r < plane.rows; ++r) {
      const std::int64_t to = offsets[0] + r * plane.row_stride[0],
                         from = offsets[1] + r * plane.row_stride[1];
      types.row(plane.columns, static_cast<std::byte*>(dst) + to * static_cast<std::int64_t>(types.dst_size),
                plane.column_stride[0],
                static_cast<const std::byte*>(src) + from * static_cast<std::int64_t>(types.src_size),
                plane.column_stride[1]);
    }
  });
}

bool is_one_value(const Loops<2>& loops) {
  return std::all_of(loops.strides[1], loops.strides[1] + loops.rank,
                     [](std::int64_t stride) { return stride == 0; });
}

void copy(const Loops<2>& loops, void* dst, DType dst_type, const void* src, DType src_type) {
  if (dst_type == src_type) return move(loops, dst, src, dst_type);
  const Conversion types = conversion(dst_type, src_type);
  if (!is_one_value(loops)) return convert_elements(loops, dst, src, types);
  if (element_count(loops) == 0) return;
  alignas(8) std::byte value[8];
  types.row(1, value, 1, src, 1);
  move(loops, dst, value, dst_type);
}

void copy_reference(const Loops<2>& loops, void* dst, DType dst_type, const void* src, DType src_type) {
  const Conversion types = conversion(dst_type, src_type);
  for (std::int64_t i = 0; i < element_count(loops); ++i) {
    const std::int64_t to = offset_of(loops, 0, i), from = offset_of(loops, 1, i);
    types.row(1, static_cast<std::byte*>(dst) + to * static_cast<std::int64_t>(types.dst_size), 1,
              static_cast<const std::byte*>(src) + from * static_cast<std::int64_t>(types.src_size), 1);
  }
}

}  // namespace

void fill_copy(Table& table, Isa isa) {
  table.copy = isa == Isa::reference ? copy_reference : copy;
}

}  // namespace grapnel::kernels
