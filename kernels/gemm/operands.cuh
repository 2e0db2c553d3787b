// Operands as tensor cores take them: matrices of floats, or of bfloat16 in one part or three, in rows of
// whole pieces of 16 bytes. Floats that lie so stay where they are; everything else is copied first.
#pragma once

#include "grapnel/kernels/common/grid.cuh"
#include "grapnel/kernels/common/parts.cuh"
#include "grapnel/kernels/common/precision.h"

namespace grapnel::kernels {

/// Calls use.operator()<way>() with how Hopper multiplies, and with how other GPUs do.
template <class Use>
void as_precision_says(Precision precision, const Use& use) {
  switch (precision) {
    case Precision::fp32:
      return use.template operator()<AsFp32>();
    case Precision::tf32:
      return use.template operator()<AsTf32>();
    case Precision::bf16:
      return use.template operator()<AsBf16>();
  }
}
template <class Use>
void as_tiles_multiply(Precision precision, const Use& use) {
  switch (precision) {
    case Precision::fp32:
      return use.template operator()<AsFloats>();
    case Precision::tf32:
      return use.template operator()<AsTf32>();
    case Precision::bf16:
      return use.template operator()<AsBf16>();
  }
}

/// Elements in 16 bytes.
template <class Way>
inline constexpr int kPiece = 16 / static_cast<int>(sizeof(ElementOf<Way>));

/// What a row of so many elements takes.
template <class Way>
constexpr std::int64_t whole_pieces(std::int64_t elements) {
  if (std::is_same_v<Way, AsFloats>) return elements;
  return (elements + kPiece<Way> - 1) / kPiece<Way> * kPiece<Way>;
}

/// A matrix of floats or BFloat16, by its strides.
template <class T>
struct MatrixOf {
  const T* data;
  std::int64_t rows, columns, row_stride, column_stride;
};

/// to (parts, rows, padded), dense, = from, with zeros behind its columns; `width` elements a thread.
template <class Way, int width, class T>
GRAPNEL_KERNEL(kBlockThreads)
copy_operand_kernel(MatrixOf<T> from, std::int64_t padded, device::Global<ElementOf<Way>> to) {
  device::after_previous();
  const std::int64_t i = element() * width, count = from.rows * padded;
  if (i >= count) return;
  const std::int64_t column = i % padded;
  device::Vector<float, width> values{};
  if (column < from.columns)
    values = load_floats<width>(device::Global<const T>(from.data),
                                i / padded * from.row_stride + column * from.column_stride);
  store_parts<Way, width>(to, i, count, values);
}

/// Fills `to` with the copy; whole fours are read and written at once.
template <class Way, class T>
void copy_operand(const char* name, const MatrixOf<T>& from, std::int64_t padded, ElementOf<Way>* to) {
  const bool in_fours = from.column_stride == 1 && from.columns % 4 == 0 && padded % 4 == 0 &&
                        from.row_stride % 4 == 0 && aligned_for_four(from.data);
  in_fours ? launch_each(name, from.rows * padded / 4, copy_operand_kernel<Way, 4, T>, from, padded, to)
           : launch_each(name, from.rows * padded, copy_operand_kernel<Way, 1, T>, from, padded, to);
}

/// Calls use(operand, pitch) with rows at multiples of 16 bytes, zeros up to whole pieces, and all rows of
/// one part behind those of the other. What lies so is used where it is; a copy lasts until what `use`
/// launched has ended.
template <class Way, class T, class Use>
void with_operand(const char* name, const MatrixOf<T>& from, const Use& use) {
  using Element = ElementOf<Way>;
  const std::int64_t padded = whole_pieces<Way>(from.columns);
  if constexpr (std::is_same_v<Element, T>)
    if (from.column_stride == 1 && from.row_stride % kPiece<Way> == 0 && padded == from.columns &&
        reinterpret_cast<std::uintptr_t>(from.data) % 16 == 0)
      return use(from.data, from.row_stride);
  const device::Workspace copy(static_cast<std::size_t>(Way::kParts * from.rows * padded) * sizeof(Element));
  copy_operand<Way>(name, from, padded, copy.of<Element>());
  use(static_cast<const Element*>(copy.of<Element>()), padded);
}

}  // namespace grapnel::kernels
