// The transposing copy: dst[r, c] = src[c, r] for two matrices that are both dense along their rows, in
// square tiles so that every cache line is used whole while it is near.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace grapnel::kernels {

/// A cache line of floats.
inline constexpr std::int64_t kTile = 16;

/// Four by four floats in registers.
inline void transpose_quad(float* dst, std::int64_t dst_row, const float* src, std::int64_t src_row) {
  typedef float Quad __attribute__((vector_size(16)));
  Quad in[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&in[i], src + i * src_row, sizeof(Quad));
  const Quad low01 = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
  const Quad low23 = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
  const Quad high01 = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
  const Quad high23 = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
  const Quad out[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                       __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                       __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                       __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(dst + i * dst_row, &out[i], sizeof(Quad));
}

/// Any part of the matrix, element by element; the longer side is the inner loop.
template <class T>
void transpose_elements(std::int64_t rows, std::int64_t columns, T* dst, std::int64_t dst_row, const T* src,
                        std::int64_t src_row) {
  if (columns < rows) {
    for (std::int64_t c = 0; c < columns; ++c) {
      for (std::int64_t r = 0; r < rows; ++r) dst[r * dst_row + c] = src[c * src_row + r];
    }
  } else {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) dst[r * dst_row + c] = src[c * src_row + r];
    }
  }
}

template <class T>
void transpose_tile(std::int64_t rows, std::int64_t columns, T* dst, std::int64_t dst_row, const T* src,
                    std::int64_t src_row) {
  if constexpr (std::is_same_v<T, float>) {
    const std::int64_t even_rows = rows & ~3, even_columns = columns & ~3;
    for (std::int64_t r = 0; r < even_rows; r += 4) {
      for (std::int64_t c = 0; c < even_columns; c += 4) {
        transpose_quad(dst + r * dst_row + c, dst_row, src + c * src_row + r, src_row);
      }
    }
    transpose_elements(rows - even_rows, even_columns, dst + even_rows * dst_row, dst_row, src + even_rows,
                       src_row);
    transpose_elements(rows, columns - even_columns, dst + even_columns, dst_row,
                       src + even_columns * src_row, src_row);
  } else {
    transpose_elements(rows, columns, dst, dst_row, src, src_row);
  }
}

template <class T>
void copy_transposed(std::int64_t rows, std::int64_t columns, T* dst, std::int64_t dst_row, const T* src,
                     std::int64_t src_row) {
  if (std::min(rows, columns) < 4) return transpose_elements(rows, columns, dst, dst_row, src, src_row);
  for (std::int64_t r = 0; r < rows; r += kTile) {
    for (std::int64_t c = 0; c < columns; c += kTile) {
      transpose_tile(std::min(kTile, rows - r), std::min(kTile, columns - c), dst + r * dst_row + c, dst_row,
                     src + c * src_row + r, src_row);
    }
  }
}

}  // namespace grapnel::kernels
