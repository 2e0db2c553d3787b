// The matrix product behind gemm and all convolution passes on a GPU: C (M,N) = A (M,K) B (K,N), where A, B
// and what becomes of C are given as small structs.
//
// A block makes a tile of kM x kN, in steps: copies of the next steps' operands to shared memory are under
// way while one is multiplied. A source says where an element lies; the tile in shared memory has the order
// of the source (along k, or along m or n). A long K is split between blocks; their sums are added in their
// order by a second kernel. Read next: multiply.cuh (float FMAs), fragments.cuh (tensor cores).
#pragma once

#include <algorithm>

#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {

inline constexpr int kStages = 3;
/// So many are added up in one float before they meet the sum of what came before.
inline constexpr int kStepsTogether = 8;
/// Terms that a block adds up at most.
inline constexpr int kMostTerms = 8192;

/// One thread's share of the copies: at one depth of the step, some pieces of the rows. A Source has
///   Element, kAlongK, kWidth      the order of its memory, and how many elements are copied together
///   void enter(int group)         goes on to a group's matrix
///   Row row(int i), Place place(int k)    what there is to know of row i and of depth k; rows behind the
///   last
///                                 may be any, as they are multiplied for nobody
///   bool holds(Row, Place)        whether there is such an element; else it is 0
///   const Element* at(Row, Place) the first of kWidth
template <class Tile, class Source, int kThreads>
class Feeder {
 public:
  using Element = typename Source::Element;

  GRAPNEL_DEVICE Feeder(const Source& source, int first_row) : source_(source) {
    const int t = static_cast<int>(device::thread().x), line = t / kLine;
    depth_ = Source::kAlongK ? t % kLine * kWidth : line;
    for (int i = 0; i < kShare; ++i) {
      // Lines next to each other are written together, so they take turns in where they begin.
      const int row = Source::kAlongK ? Tile::line(line) + i * kTogether
                                      : (t % kLine + (kShare > 1 ? i ^ line % 2 : 0) * kLine) * kWidth;
      rows_[i] = source.row(first_row + row);
      if (i < kStarts) starts_[i] = Tile::at(row, depth_);
    }
  }

  GRAPNEL_DEVICE void start(device::Shared<Element> tile, int k, int end) const {
    const auto place = source_.place(k + depth_);
    const bool inside = k + depth_ < end;
    GRAPNEL_UNROLL
    for (int i = 0; i < kShare; ++i)
      device::copy_async<Source::kWidth>(
          tile + (Source::kAlongK ? starts_[0] + Tile::at(i * kTogether, 0) : starts_[i % kStarts]),
          source_.at(rows_[i], place), !(inside && source_.holds(rows_[i], place)));
  }

 private:
  static constexpr int kWidth = Source::kWidth,
                       kLine = Source::kAlongK ? Tile::kDepth / kWidth : kThreads / Tile::kDepth,
                       kTogether = kThreads / kLine, kShare = Tile::kRows * Tile::kDepth / kWidth / kThreads,
                       kStarts = Source::kAlongK ? 1 : kShare;
  static_assert(kThreads % kLine == 0 && kShare * kThreads * kWidth == Tile::kRows * Tile::kDepth);
  static_assert(kTogether % 8 == 0 && (kShare == 1 || kShare % 2 == 0));  // Tile::at repeats after 8 rows

  Source source_;
  int depth_, starts_[kStarts];
  typename Source::Row rows_[kShare];
};

/// Tiles are counted along m first, then n, then splits, then groups: all in one dimension of the grid, as
/// the others end at 65535.
struct ProductSizes {
  int groups, m, n, k, splits;
};

template <class Int>
constexpr Int tiles_for(Int size, std::type_identity_t<Int> tile) {
  return size / tile + (size % tile != 0);
}

/// The first k of a split: whole steps.
template <int kDepth>
GRAPNEL_DEVICE int split_begin(const ProductSizes& s, int split) {
  const auto begin = static_cast<std::int64_t>(tiles_for(s.k, kDepth)) * split / s.splits * kDepth;
  return begin < s.k ? static_cast<int>(begin) : s.k;
}

/// The sums of row m and columns n and on of a slice, a group's split; nothing if there is no such place.
/// s.n is a multiple of the width. An Output has
///   void operator()(int group, int m, int n, const Vector<float, width>& sums) const
/// for a width of 1, and for 4 where its in_fours() says so.
template <int width, class Output>
GRAPNEL_DEVICE void deliver(const ProductSizes& s, int slice, int m, int n,
                            const device::Vector<float, width>& sums, const Output& output,
                            device::Global<float> partial) {
  if (m >= s.m || n >= s.n) return;
  if (s.splits == 1)
    output(slice, m, n, sums);
  else
    device::store_vector(partial, (static_cast<std::int64_t>(slice) * s.m + m) * s.n + n, sums);
}

/// The same for a tile of kRows x kColumns sums that lies in shared memory, rows `pitch` apart: of kThreads
/// threads, this is number `t`, and neighbours write neighbours.
template <int kRows, int kColumns, int kThreads, class Output>
GRAPNEL_DEVICE void deliver_tile(const ProductSizes& s, int slice, int first_row, int first_column,
                                 device::Shared<float> sums, int pitch, int t, bool in_fours,
                                 const Output& output, device::Global<float> partial) {
  const auto deliver_all = [&]<int width>() {
    constexpr int kLine = kColumns / width;
    for (int i = t; i < kRows * kLine; i += kThreads) {
      const int m = i / kLine, n = i % kLine * width;
      deliver(s, slice, first_row + m, first_column + n, device::load_vector<width>(sums, m * pitch + n),
              output, partial);
    }
  };
  in_fours ? deliver_all.template operator()<4>() : deliver_all.template operator()<1>();
}

/// Whether an Output wants tiles to be summed up, and each is made by one block.
template <class Output>
constexpr bool sums_up(const ProductSizes& s, const Output& output) {
  if constexpr (requires { output.moments; })
    return output.moments != nullptr && s.splits == 1 && s.groups == 1;
  else
    return false;
}

/// In how many pieces, and of how many rows, the columns of a tile are summed up.
template <int kRows, int kColumns, int kThreads>
struct TilePieces {
  static_assert(kThreads % kColumns == 0);
  static constexpr int kCount = kThreads / kColumns, kLength = kRows / kCount;
};

/// Of each column of a tile like deliver_tile's, in pieces: moments[piece] = (2, s.n), the mean and the sum
/// of squares about it of the piece's rows that are there.
template <int kRows, int kColumns, int kThreads>
GRAPNEL_DEVICE void sum_up_tile(const ProductSizes& s, int first_row, int first_column,
                                device::Shared<float> sums, int pitch, int t, device::Global<float> moments) {
  using Pieces = TilePieces<kRows, kColumns, kThreads>;
  const int n = t % kColumns, piece = t / kColumns, begin = piece * Pieces::kLength;
  const int left = s.m - first_row - begin, rows = left < Pieces::kLength ? left : Pieces::kLength;
  if (first_column + n >= s.n || rows <= 0) return;
  const float pivot = device::load(sums, begin * pitch + n);
  float total = 0, squares = 0;
  for (int m = 1; m < rows; ++m) {
    const float d = device::load(sums, (begin + m) * pitch + n) - pivot;
    total += d;
    squares += d * d;
  }
  const float shift = total / static_cast<float>(rows);
  const std::int64_t at =
      2 * std::int64_t{s.n} * (first_row / kRows * Pieces::kCount + piece) + first_column + n;
  device::store(moments, at, pivot + shift);
  device::store(moments, at + s.n, squares - total * shift);
}

/// What a block has in shared memory: stages of A's tile, then B's; in the end rows of sums. A Multiply has
///   Element, kM, kN, kDepth, kThreads, kBlocks   what it multiplies, the tile, a step, the launch
///   Tile<rows, Source>            an operand's stage: kRows, kDepth, kElements, at(row, k); along k, which
///                                 row is copied as the i-th, line(i)
///   void step<TileA, TileB>(a, b) adds a stage's products to `sums`
///   void leave<TileA, TileB>(to, pitch, first)   stores sums of rows first to first + kRowsLeft
template <class Multiply, class A, class B>
struct ProductMemory {
  using Element = typename Multiply::Element;
  using TileA = typename Multiply::template Tile<Multiply::kM, A>;
  using TileB = typename Multiply::template Tile<Multiply::kN, B>;
  static constexpr int kStage = TileA::kElements + TileB::kElements;
  /// Rows of sums, with which no two lanes meet in a bank; as many at a time as fit where the stages were.
  static constexpr int kRowsLeft = 64, kPitch = Multiply::kN + 8;
  static constexpr std::size_t kBytes =
      std::max(kStages * kStage * sizeof(Element), kRowsLeft* kPitch * sizeof(float));
};

template <class Multiply, class A, class B, class Output>
GRAPNEL_KERNEL(Multiply::kThreads, Multiply::kBlocks)
product_kernel(ProductSizes s, A a, B b, Output output, bool in_fours, device::Global<float> partial) {
  using namespace device;
  using Memory = ProductMemory<Multiply, A, B>;
  using TileA = typename Memory::TileA;
  using TileB = typename Memory::TileB;
  constexpr int kM = Multiply::kM, kN = Multiply::kN, kDepth = Multiply::kDepth,
                kThreads = Multiply::kThreads;
  const int across = tiles_for(s.m, kM), down = tiles_for(s.n, kN);
  const int tile = static_cast<int>(block().x), slice = tile / across / down;
  const int group = slice / s.splits, split = slice % s.splits;
  const int first_row = tile % across * kM, first_column = tile / across % down * kN;
  a.enter(group);
  b.enter(group);
  const Feeder<TileA, A, kThreads> feed_a(a, first_row);
  const Feeder<TileB, B, kThreads> feed_b(b, first_column);
  const auto rows_of_a = [](int stage) {
    return shared_memory<typename Memory::Element>() + stage * Memory::kStage;
  };
  const int begin = split_begin<kDepth>(s, split), end = split_begin<kDepth>(s, split + 1);
  const int steps = tiles_for(end - begin, kDepth);
  const auto start = [&](int step, int stage) {
    if (step < steps) {
      feed_a.start(rows_of_a(stage), begin + step * kDepth, end);
      feed_b.start(rows_of_a(stage) + TileA::kElements, begin + step * kDepth, end);
    }
    commit_copies();
  };
  wait_for_previous();
  for (int step = 0; step < kStages - 1; ++step) start(step, step);

  Multiply multiply;
  for (int step = 0, stage = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    sync_block();  // everybody's copies are there, and nobody reads the stage that is filled next
    start(step + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    multiply.template step<TileA, TileB>(rows_of_a(stage), rows_of_a(stage) + TileA::kElements);
    if ((step + 1) % kStepsTogether == 0) multiply.sums.fold();
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  wait_for_copies<0>();
  launch_next();
  const Shared<float> sums = shared_memory<float>();
  for (int first = 0; first < kM; first += Memory::kRowsLeft) {
    sync_block();
    multiply.template leave<TileA, TileB>(sums, Memory::kPitch, first, Memory::kRowsLeft);
    sync_block();
    if constexpr (requires { output.moments; })
      if (sums_up(s, output))
        sum_up_tile<Memory::kRowsLeft, kN, kThreads>(s, first_row + first, first_column, sums, Memory::kPitch,
                                                     static_cast<int>(thread().x), output.moments);
    deliver_tile<Memory::kRowsLeft, kN, kThreads>(s, slice, first_row + first, first_column, sums,
                                                  Memory::kPitch, static_cast<int>(thread().x), in_fours,
                                                  output, partial);
  }
}

/// The sums of all splits at some elements of the first one; 0 where `at` is negative.
template <int count>
GRAPNEL_DEVICE device::Vector<float, count> sums_of_splits(const ProductSizes& s,
                                                           const std::int64_t (&at)[count],
                                                           device::Global<const float> partial) {
  double sums[count] = {};
  for (int split = 0; split < s.splits; ++split) {
    const auto of_split = partial + split * static_cast<std::int64_t>(s.m) * s.n;
    GRAPNEL_UNROLL for (int i = 0; i < count; ++i) if (at[i] >= 0) sums[i] += device::load(of_split, at[i]);
  }
  device::Vector<float, count> result;
  GRAPNEL_UNROLL for (int i = 0; i < count; ++i) result[i] = static_cast<float>(sums[i]);
  return result;
}

/// Adds up what the splits left.
template <class Output>
GRAPNEL_KERNEL(kBlockThreads)
fold_splits_kernel(ProductSizes s, Output output, device::Global<const float> partial) {
  device::after_previous();
  const std::int64_t i = element(), matrix = static_cast<std::int64_t>(s.m) * s.n;
  if (i >= s.groups * matrix) return;
  const std::int64_t group = i / matrix, at = i % matrix;
  output(static_cast<int>(group), static_cast<int>(at / s.n), static_cast<int>(at % s.n),
         sums_of_splits<1>(s, {group * s.splits * matrix + at}, partial));
}

/// Calls start(partial) for a product in s.splits parts, and adds them up if they are more than one; an
/// Output may have a way of its own to do so, fold_splits().
template <class Output, class Start>
void run_split(const char* name, const ProductSizes& s, const Output& output, const Start& start) {
  const std::int64_t sums = static_cast<std::int64_t>(s.groups) * s.m * s.n;
  const device::Workspace workspace(
      s.splits == 1 ? 0 : sizeof(float) * static_cast<std::size_t>(s.splits * sums));
  float* partial = workspace.of<float>();
  start(partial);
  if (s.splits == 1) return;
  if constexpr (requires { output.fold_splits(name, s, partial); })
    if (output.fold_splits(name, s, partial)) return;
  launch_each(name, sums, fold_splits_kernel<Output>, s, output, partial);
}

/// Runs a product of `groups` independent matrices, each in `splits` parts. Gives how many rows the pieces
/// have that tiles were summed up in; 0: they were not.
template <class Multiply, class A, class B, class Output>
int run_product(const char* name, const ProductSizes& s, const A& a, const B& b, const Output& output) {
  const std::int64_t blocks = static_cast<std::int64_t>(tiles_for(s.m, Multiply::kM)) *
                              tiles_for(s.n, Multiply::kN) * s.groups * s.splits;
  run_split(name, s, output, [&](float* partial) {
    device::launch(name, {static_cast<unsigned>(blocks)}, {static_cast<unsigned>(Multiply::kThreads)},
                   ProductMemory<Multiply, A, B>::kBytes, product_kernel<Multiply, A, B, Output>, s, a, b,
                   output, s.n % 4 == 0 && output.in_fours(), partial);
  });
  using Memory = ProductMemory<Multiply, A, B>;
  return sums_up(s, output) ? TilePieces<Memory::kRowsLeft, Multiply::kN, Multiply::kThreads>::kLength : 0;
}

}  // namespace grapnel::kernels
