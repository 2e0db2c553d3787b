// The transposing copy: dst[r, c] = src[c, r] for two matrices that are both dense along their rows, in
// square tiles so that every cache line is used whole while it is near.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "grapnel/kernels/copy/convert.h"

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
template <class To, class From>
void transpose_elements(std::int64_t rows, std::int64_t columns, To* dst, std::int64_t dst_row,
                        const From* src, std::int64_t src_row) {
  if (columns < rows) {
    for (std::int64_t c = 0; c < columns; ++c) {
      for (std::int64_t r = 0; r < rows; ++r) dst[r * dst_row + c] = convert<To>(src[c * src_row + r]);
    }
  } else {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) dst[r * dst_row + c] = convert<To>(src[c * src_row + r]);
    }
  }
}

template <class To, class From>
void copy_transposed(std::int64_t rows, std::int64_t columns, To* dst, std::int64_t dst_row, const From* src,
                     std::int64_t src_row) {
  if (std::min(rows, columns) < 4) return transpose_elements(rows, columns, dst, dst_row, src, src_row);
  for (std::int64_t r = 0; r < rows; r += kTile) {
    for (std::int64_t c = 0; c < columns; c += kTile) {
      const std::int64_t height = std::min(kTile, rows - r), width = std::min(kTile, columns - c);
      To* to = dst + r * dst_row + c;
      const From* from = src + c * src_row + r;
      if constexpr (std::is_same_v<To, float> && std::is_same_v<From, float>) {
        const std::int64_t even_height = height & ~3, even_width = width & ~3;
        for (std::int64_t i = 0; i < even_height; i += 4) {
          for (std::int64_t j = 0; j < even_width; j += 4) {
            transpose_quad(to + i * dst_row + j, dst_row, from + j * src_row + i, src_row);
          }
        }
        transpose_elements(height - even_height, even_width, to + even_height * dst_row, dst_row,
                           from + even_height, src_row);
        transpose_elements(height, width - even_width, to + even_width, dst_row, from + even_width * src_row,
                           src_row);
      } else {
        transpose_elements(height, width, to, dst_row, from, src_row);
      }
    }
  }
}

}  // namespace grapnel::kernels
