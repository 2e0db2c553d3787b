// A function of all elements of a nest, over any strides: out = f(in...). A thread takes neighbours along the
// last dimension together where all operands let it.
#pragma once

#include <utility>

#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {

/// Some neighbours along the last dimension: where they begin in each operand, and how many elements there
/// are from there to the end of the dimension.
template <int Operands>
struct Group {
  std::int64_t left;
  std::int64_t offsets[Operands];
};

/// Group `flat` (row-major over the nest) of `width` elements, or of what is left of the last dimension.
template <int width, int Operands>
GRAPNEL_DEVICE Group<Operands> group_in(const Loops<Operands>& loops, std::int64_t flat) {
  const int last = loops.rank - 1;
  Group<Operands> group{};
  for (int d = last; d >= 0; --d) {
    const std::int64_t size = d == last ? (loops.sizes[d] + width - 1) / width : loops.sizes[d];
    const std::int64_t rest = d > 0 ? flat / size : 0;
    const std::int64_t index = (flat - rest * size) * (d == last ? width : 1);
    if (d == last) group.left = loops.sizes[d] - index;
    for (int k = 0; k < Operands; ++k) group.offsets[k] += index * loops.strides[k][d];
    flat = rest;
  }
  return group;
}

/// `width` elements that lie together, or the same one for all where the step is 0.
template <int width, class T>
GRAPNEL_DEVICE device::Vector<T, width> load_group(device::Global<const T> from, std::int64_t step) {
  if (width == 1 || step != 0) return device::load_vector<width>(from);
  const T value = device::load(from);
  device::Vector<T, width> same;
  for (int i = 0; i < width; ++i) same[i] = value;
  return same;
}

template <int width, class Function, class Out, class... Ins>
GRAPNEL_KERNEL(kBlockThreads)
apply_kernel(Function f, std::int64_t groups, Loops<1 + sizeof...(Ins)> loops, device::Global<Out> out,
             device::Global<const Ins>... ins) {
  using namespace device;
  after_previous();
  if (element() >= groups) return;
  const auto group = group_in<width>(loops, element());
  const int last = loops.rank - 1;
  const Global<Out> to = out + group.offsets[0];
  const auto with_operands = [&]<int... k>(std::integer_sequence<int, k...>) {
    if (width == 1 || group.left >= width) {
      const auto apply = [&](const auto&... values) {
        Vector<Out, width> results;
        GRAPNEL_UNROLL
        for (int i = 0; i < width; ++i) results[i] = f(values[i]...);
        store_vector(to, 0, results);
      };
      apply(load_group<width>(ins + group.offsets[k + 1], loops.strides[k + 1][last])...);
    } else {
      for (int i = 0; i < group.left; ++i)
        store(to, i, f(load(ins + group.offsets[k + 1], i * loops.strides[k + 1][last])...));
    }
  };
  with_operands(std::make_integer_sequence<int, sizeof...(Ins)>{});
}

/// May threads take `width` elements, 16 bytes, together?
template <int Operands>
bool lies_in_vectors(const Loops<Operands>& loops, const void* const (&data)[Operands], int width) {
  const int last = loops.rank - 1;
  for (int k = 0; k < Operands; ++k) {
    if (k > 0 && loops.strides[k][last] == 0) continue;
    if (loops.strides[k][last] != 1 || reinterpret_cast<std::uintptr_t>(data[k]) % 16 != 0) return false;
    for (int d = 0; d < last; ++d)
      if (loops.strides[k][d] % width != 0) return false;
  }
  return true;
}

/// out = f(in...) for elements of one size; out may be one of the inputs.
template <class Function, class Out, class... Ins>
void apply(const char* name, const Function& f, const Loops<1 + sizeof...(Ins)>& loops, Out* out,
           const Ins*... ins) {
  static_assert(((sizeof(Ins) == sizeof(Out)) && ...));
  constexpr int kWidth = 16 / sizeof(Out);
  const std::int64_t columns = loops.sizes[loops.rank - 1];
  std::int64_t rows = 1;
  for (int d = 0; d < loops.rank - 1; ++d) rows *= loops.sizes[d];
  const auto start = [&](std::int64_t groups, auto kernel) {
    launch_each(name, groups, kernel, f, groups, loops, out, ins...);
  };
  if (lies_in_vectors(loops, {out, ins...}, kWidth))
    start(rows * ((columns + kWidth - 1) / kWidth), apply_kernel<kWidth, Function, Out, Ins...>);
  else
    start(rows * columns, apply_kernel<1, Function, Out, Ins...>);
}

}  // namespace grapnel::kernels
