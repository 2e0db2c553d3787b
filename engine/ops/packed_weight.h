// Operands as kernels read them, kept beside the floats. Internal to the engine.
#pragma once

#include <memory>
#include <string_view>

#include "grapnel/engine/backend.h"

namespace grapnel {

/// The weight in the order the kernel of a pass wants, kept from its second use on until the weight changes.
template <class T>
std::shared_ptr<Storage> packed_weight(const kernels::Conv2d& shape, kernels::ConvPass pass,
                                       const Tensor& weight);

/// Under which a storage keeps the Parts (kernels.h) of all its elements.
inline std::string_view parts_key(int count) {
  return count == 1 ? "1 part" : "3 parts";
}

/// How many Parts convolutions want of x (N,C,H,W); 0: none.
template <class T>
int parts_of(const kernels::FloatKernels<T>& table, const Shape& x) {
  return table.conv2d_parts ? table.conv2d_parts(x[1]) : 0;
}

/// Whether x is all elements of its storage, in any order.
inline bool is_whole(const Tensor& x) {
  return x.storage_offset() == 0 &&
         static_cast<std::size_t>(x.numel()) * item_size(x.dtype()) == x.storage()->bytes();
}

/// The Parts of x (N,C,H,W), dense channels last, that convolutions want, if its storage keeps them.
template <class T>
std::shared_ptr<Storage> kept_parts(const kernels::FloatKernels<T>& table, const Tensor& x) {
  const int count = parts_of(table, x.shape());
  return count > 0 && is_whole(x) ? x.storage()->kept(parts_key(count)) : nullptr;
}

}  // namespace grapnel
