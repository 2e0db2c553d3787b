// Strided copies and conversions on a GPU. Elements of one type move as words of their size; a copy that
// turns rows into columns, as between channels first and last, goes through shared memory.
#include <algorithm>

#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/copy/convert.h"
#include "grapnel/kernels/elementwise/nest.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;
using Index = std::int64_t;

constexpr int kSide = 32;          // of a tile that is turned
constexpr int kPitch = kSide + 1;  // its columns are in different banks

struct Same {
  template <class T>
  GRAPNEL_DEVICE T operator()(T value) const {
    return value;
  }
};

/// A tile a block, of a nest whose last dimension (columns) is dense in `to` and whose last but one (rows) is
/// dense in `from`; `tiles` is the same nest in steps of kSide.
template <class To, class From>
GRAPNEL_KERNEL(kBlockThreads)
turn_kernel(Loops<2> tiles, Loops<2> loops, Global<To> to, Global<const From> from) {
  after_previous();
  const Shared<To> tile = shared_memory<To>();
  const int last = loops.rank - 1, x = static_cast<int>(thread().x) % kSide,
            y = static_cast<int>(thread().x) / kSide;
  const Index number = block().x, across = tiles.sizes[last];
  const Index columns = loops.sizes[last] - number % across * kSide;
  const Index rows = loops.sizes[last - 1] - number / across % tiles.sizes[last - 1] * kSide;
  const Group<2> corner = group_in<1>(tiles, number);
  to = to + corner.offsets[0];
  from = from + corner.offsets[1];
  for (int i = y; i < kSide; i += kBlockThreads / kSide)
    if (x < rows && i < columns)
      store(tile, i * kPitch + x, convert<To>(load(from, x + i * loops.strides[1][last])));
  sync_block();
  for (int i = y; i < kSide; i += kBlockThreads / kSide)
    if (i < rows && x < columns) store(to, i * loops.strides[0][last - 1] + x, load(tile, x * kPitch + i));
}

/// The types are the same for all threads: one kernel for all pairs, whose time goes into memory.
GRAPNEL_KERNEL(kBlockThreads)
convert_kernel(Index count, Loops<2> loops, void* to, DType to_type, const void* from, DType from_type) {
  after_previous();
  if (element() >= count) return;
  const Group<2> at = group_in<1>(loops, element());
  with_type(from_type, [&]<class From>(From) {
    const From value = load(Global<const From>(static_cast<const From*>(from)), at.offsets[1]);
    with_type(to_type, [&]<class To>(To) {
      store(Global<To>(static_cast<To*>(to)), at.offsets[0], convert<To>(value));
    });
  });
}

Index count_of(const Loops<2>& loops) {
  Index count = 1;
  for (int d = 0; d < loops.rank; ++d) count *= loops.sizes[d];
  return count;
}

/// The dimension that is dense in `from`, where the last one is dense in `to` only and both are worth a tile;
/// -1 if there is none.
int rows_to_turn(const Loops<2>& loops) {
  constexpr Index kLeast = kSide / 4;
  const int last = loops.rank - 1;
  if (loops.strides[0][last] != 1 || loops.strides[1][last] == 1 || loops.sizes[last] < kLeast) return -1;
  for (int d = 0; d < last; ++d)
    if (loops.strides[1][d] == 1 && loops.sizes[d] >= kLeast) return d;
  return -1;
}

template <class To, class From>
void turn(Loops<2> loops, int rows, void* to, const void* from) {
  const int last = loops.rank - 1;
  const auto move_rows = [&](Index* values) { std::rotate(values + rows, values + rows + 1, values + last); };
  move_rows(loops.sizes);
  for (auto& strides : loops.strides) move_rows(strides);
  Loops<2> tiles = loops;
  for (const int d : {last - 1, last}) {
    tiles.sizes[d] = (loops.sizes[d] + kSide - 1) / kSide;
    for (auto& strides : tiles.strides) strides[d] *= kSide;
  }
  launch("copy", {static_cast<unsigned>(count_of(tiles))}, {kBlockThreads}, kSide * kPitch * sizeof(To),
         turn_kernel<To, From>, tiles, loops, static_cast<To*>(to), static_cast<const From*>(from));
}

template <class Word>
void move(const Loops<2>& loops, void* to, const void* from) {
  const int rows = rows_to_turn(loops);
  if (rows >= 0)
    turn<Word, Word>(loops, rows, to, from);
  else
    apply("copy", Same{}, loops, static_cast<Word*>(to), static_cast<const Word*>(from));
}

void copy(const Loops<2>& loops, void* to, DType to_type, const void* from, DType from_type) {
  const Index count = count_of(loops);
  if (count == 0) return;
  const int rows = rows_to_turn(loops);
  if (rows >= 0 && to_type == DType::float32 && from_type == DType::bfloat16)  // as activations are kept
    return turn<float, BFloat16>(loops, rows, to, from);
  if (to_type != from_type)
    return launch_each("copy", count, convert_kernel, count, loops, to, to_type, from, from_type);
  switch (to_type) {
    case DType::float64:
    case DType::int64:
      return move<std::uint64_t>(loops, to, from);
    case DType::float32:
      return move<std::uint32_t>(loops, to, from);
    case DType::float16:
    case DType::bfloat16:
      return move<std::uint16_t>(loops, to, from);
    case DType::uint8:
    case DType::boolean:
      return move<std::uint8_t>(loops, to, from);
  }
}

}  // namespace

void fill_copy_cuda(Table& table) {
  table.copy = copy;
}

}  // namespace grapnel::kernels
