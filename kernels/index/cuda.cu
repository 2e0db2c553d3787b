// Reading at and adding to indices on a GPU, and argmax. Where several j meet in one place, one thread takes
// all of them, in order of j. What an index outside of the tensor would read is NaN, and what it would add is
// left out: the host is told when it next waits (common/index_fault.h).
#include <cstring>
#include <limits>

#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/grid.cuh"
#include "grapnel/kernels/common/index_fault.h"

namespace grapnel::kernels {
namespace {

using namespace device;
using Index = std::int64_t;

struct Sizes {
  Index outer, size, count, inner;
};

GRAPNEL_DEVICE bool inside(Index index, Index size) {
  return index >= 0 && index < size;
}

/// y[i, j, l] = x[i, index, l], a thread an element; the index is that of j, or one for each (i, j, l).
template <bool shaped_like_y>
GRAPNEL_KERNEL(kBlockThreads)
read_kernel(Sizes s, Global<float> y, Global<const float> x, Global<const Index> index) {
  after_previous();
  const Index at = element();
  if (at >= s.outer * s.count * s.inner) return;
  const Index row = at / s.inner, l = at - row * s.inner, i = row / s.count, j = row - i * s.count;
  const Index from = load(index, shaped_like_y ? at : j);
  store(y, at,
        inside(from, s.size) ? load(x, (i * s.size + from) * s.inner + l)
                             : std::numeric_limits<float>::quiet_NaN());
}

/// x[i, index, l] += y[i, j, l], a thread a column (i, l).
template <bool shaped_like_y>
GRAPNEL_KERNEL(kBlockThreads)
add_kernel(Sizes s, Global<float> x, Global<const float> y, Global<const Index> index) {
  after_previous();
  const Index column = element();
  if (column >= s.outer * s.inner) return;
  const Index i = column / s.inner, l = column - i * s.inner;
  for (Index j = 0; j < s.count; ++j) {
    const Index from = (i * s.count + j) * s.inner + l;
    const Index place = load(index, shaped_like_y ? from : j);
    if (!inside(place, s.size)) continue;
    const Index to = (i * s.size + place) * s.inner + l;
    store(x, to, load(x, to) + load(y, from));
  }
}

/// The same, a thread an element of x, which looks for its terms.
template <bool shaped_like_y>
GRAPNEL_KERNEL(kBlockThreads)
collect_kernel(Sizes s, Global<float> x, Global<const float> y, Global<const Index> index) {
  after_previous();
  const Index at = element();
  if (at >= s.outer * s.size * s.inner) return;
  const Index row = at / s.inner, l = at - row * s.inner, i = row / s.size, mine = row - i * s.size;
  float sum = load(x, at);
  for (Index j = 0; j < s.count; ++j) {
    const Index from = (i * s.count + j) * s.inner + l;
    if (load(index, shaped_like_y ? from : j) == mine) sum += load(y, from);
  }
  store(x, at, sum);
}

/// One block: the first by place, whatever the order of threads.
GRAPNEL_KERNEL(kBlockThreads)
find_fault_kernel(Global<IndexFault> fault, const char* operation, Index size, Index count,
                  Global<const Index> index) {
  after_previous();
  Index first = thread().x;
  while (first < count && inside(load(index, first), size)) first += kBlockThreads;
  const auto smaller = [](Index a, Index b) { return b < a ? b : a; };
  first = fold_block(first, shared_memory<Index>(), smaller);
  if (thread().x == 0 && first < count && !load(fault).operation)
    store(fault, 0, IndexFault{operation, load(index, first), size});
}

/// Grows with the value, NaN last; among equal values it falls with the position.
GRAPNEL_DEVICE std::uint64_t rank_of(float value, std::uint32_t position) {
  std::uint32_t bits;
  value += 0.0f;  // -0 equals 0
  memcpy(&bits, &value, sizeof bits);
  bits = bits >> 31 ? ~bits : bits | 0x80000000u;
  if (value != value) bits = 0xffffffffu;
  return std::uint64_t{bits} << 32 | ~position;
}

/// A block a column.
GRAPNEL_KERNEL(kBlockThreads)
argmax_of_long_kernel(Index size, Index inner, Global<Index> index, Global<const float> x) {
  after_previous();
  const Index column = block().x, i = column / inner;
  const Global<const float> values = x + (i * size * inner + column - i * inner);
  std::uint64_t best = 0;
  const auto larger = [](std::uint64_t a, std::uint64_t b) { return b > a ? b : a; };
  for (Index j = thread().x; j < size; j += kBlockThreads)
    best = larger(best, rank_of(load(values, j * inner), static_cast<std::uint32_t>(j)));
  best = fold_block(best, shared_memory<std::uint64_t>(), larger);
  if (thread().x == 0) store(index, column, ~static_cast<std::uint32_t>(best));
}

/// A thread a column.
GRAPNEL_KERNEL(kBlockThreads)
argmax_kernel(Index columns, Index size, Index inner, Global<Index> index, Global<const float> x) {
  after_previous();
  const Index column = element();
  if (column >= columns) return;
  const Index i = column / inner;
  const Global<const float> values = x + (i * size * inner + column - i * inner);
  Index best = 0;
  float leader = load(values);
  for (Index j = 1; j < size; ++j) {
    const float value = load(values, j * inner);
    if (!(value > leader || (value != value && leader == leader))) continue;
    best = j;
    leader = value;
  }
  store(index, column, best);
}

template <bool shaped_like_y>
void read(Index outer, Index size, Index count, Index inner, float* y, const float* x, const Index* index) {
  launch_each("gather", outer * count * inner, read_kernel<shaped_like_y>, Sizes{outer, size, count, inner},
              y, x, index);
}

template <bool shaped_like_y>
void add(Index outer, Index size, Index count, Index inner, float* x, const float* y, const Index* index) {
  // A few columns keep a GPU waiting for each addition in turn, unless looking for the terms takes longer.
  constexpr Index kFewColumns = 1 << 12, kMostElements = 1 << 22;
  const Index columns = outer * inner, elements = columns * size;
  const Sizes sizes{outer, size, count, inner};
  if (count > 1 && columns <= kFewColumns && elements <= kMostElements)
    launch_each("scatter", elements, collect_kernel<shaped_like_y>, sizes, x, y, index);
  else
    launch_each("scatter", columns, add_kernel<shaped_like_y>, sizes, x, y, index);
}

void argmax(Index outer, Index size, Index inner, Index* index, const float* x) {
  constexpr Index kLong = 128, kMostPositions = Index{1} << 32, kCoalesced = 32;
  const Index columns = outer * inner;
  if (columns == 0) return;
  if (size >= kLong && size <= kMostPositions && inner < kCoalesced)
    launch("argmax", {static_cast<unsigned>(columns)}, {kBlockThreads},
           kBlockThreads / 32 * sizeof(std::uint64_t), argmax_of_long_kernel, size, inner, index, x);
  else
    launch_each("argmax", columns, argmax_kernel, columns, size, inner, index, x);
}

}  // namespace

void find_index_fault(IndexFault* fault, const char* operation, Index size, Index count, const Index* index) {
  if (count > 0)
    launch("check_index", {1}, {kBlockThreads}, kBlockThreads / 32 * sizeof(Index), find_fault_kernel, fault,
           operation, size, count, index);
}

void fill_index_cuda(FloatKernels<float>& table) {
  table.index_select = read<false>;
  table.index_add = add<false>;
  table.gather = read<true>;
  table.scatter_add = add<true>;
  table.argmax = argmax;
}

}  // namespace grapnel::kernels
