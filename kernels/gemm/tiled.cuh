// The matrix product behind gemm and all convolution passes on a GPU: C (M,N) = A (M,K) B (K,N), where A, B
// and what becomes of C are given as small structs.
//
// A block makes a tile of kM x kN, in steps of kDepth: copies of the next steps' operands to shared memory
// are under way while one is multiplied. A source says where an element lies; the tile in shared memory has
// the order of the source (along k, or along m or n), with rows padded so that no two lanes meet in a bank. A
// long K is split between blocks; their sums are added in their order by a second kernel. Read next:
// multiply.cuh.
#pragma once

#include <algorithm>

#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {

inline constexpr int kDepth = 16, kStages = 3;
/// So many are added up in one float before they meet the sum of what came before; a split has no fewer.
inline constexpr int kStepsTogether = 8;

/// One stage of an operand in shared memory: rows (m or n) by kDepth, dense along k or along rows.
template <int rows, bool along_k>
struct OperandTile {
  static constexpr bool kAlongK = along_k;
  static constexpr int kPitch = along_k ? kDepth + 4 : rows + 8;
  static constexpr int kFloats = along_k ? rows * kPitch : kDepth * kPitch;
  GRAPNEL_DEVICE static int at(int row, int k) { return along_k ? row * kPitch + k : k * kPitch + row; }
};

/// One thread's share of the copies. A Source has
///   kAlongK, kWidth        the order of its memory, and how many floats (4 or 1) are copied together
///   void enter(int group)  goes on to a group's matrix
///   Row row(int i)         what there is to know of row i, once
///   const float* at(Row, int k)   the first of kWidth elements; null where they are 0
///   const float* data      any valid address
template <int kRows, class Source>
class Feeder {
 public:
  using Tile = OperandTile<kRows, Source::kAlongK>;

  GRAPNEL_DEVICE Feeder(const Source& source, int first_row) : source_(source) {
    for (int i = 0; i < kKept; ++i) rows_[i] = source.row(first_row + row_of(i));
  }

  GRAPNEL_DEVICE void start(device::Shared<float> tile, int k, int end) const {
    GRAPNEL_UNROLL
    for (int i = 0; i < kShare; ++i) {
      const int depth = depth_of(i);
      const float* from = k + depth < end ? source_.at(rows_[i % kKept], k + depth) : nullptr;
      device::copy_async<Source::kWidth>(tile + Tile::at(row_of(i), depth), from ? from : source_.data,
                                         from == nullptr);
    }
  }

 private:
  static constexpr int kWidth = Source::kWidth, kPieces = kRows * kDepth / kWidth,
                       kLine = (Source::kAlongK ? kDepth : kRows) / kWidth,
                       kShare = kPieces / static_cast<int>(kBlockThreads),
                       kKept = Source::kAlongK ? kShare : 1;  // along rows, a thread has one row only
  static_assert(kPieces % kBlockThreads == 0 && kBlockThreads % kLine == 0);

  GRAPNEL_DEVICE static int piece(int i) {
    return static_cast<int>(device::thread().x) + i * static_cast<int>(kBlockThreads);
  }
  GRAPNEL_DEVICE static int row_of(int i) {
    if constexpr (!Source::kAlongK) return piece(i) % kLine * kWidth;
    // Rows r and r + 4 lie half the banks apart; they are written together.
    const int line = piece(i) / kLine;
    return line / 8 * 8 + line % 2 * 4 + line / 2 % 4;
  }
  GRAPNEL_DEVICE static int depth_of(int i) {
    return Source::kAlongK ? piece(i) % kLine * kWidth : piece(i) / kLine;
  }

  Source source_;
  typename Source::Row rows_[kKept];
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

template <class Multiply, int kM, int kN, class A, class B, class Output>
GRAPNEL_KERNEL(kBlockThreads, kM* kN > 64 * 64 ? 1 : 2)
product_kernel(ProductSizes s, A a, B b, Output output, device::Global<float> partial) {
  using namespace device;
  const int across = tiles_for(s.m, kM), down = tiles_for(s.n, kN);
  const int tile = static_cast<int>(block().x), slice = tile / across / down;
  const int group = slice / s.splits, split = slice % s.splits;
  const int first_row = tile % across * kM, first_column = tile / across % down * kN;
  a.enter(group);
  b.enter(group);
  const Feeder<kM, A> feed_a(a, first_row);
  const Feeder<kN, B> feed_b(b, first_column);
  using TileA = typename Feeder<kM, A>::Tile;
  using TileB = typename Feeder<kN, B>::Tile;
  const auto stage = [&](int step) {
    return shared_memory<float>() + step % kStages * (TileA::kFloats + TileB::kFloats);
  };
  const int begin = split_begin(s, split), end = split_begin(s, split + 1);
  const int steps = tiles_for(end - begin, kDepth);
  const auto start = [&](int step) {
    if (step < steps) {
      feed_a.start(stage(step), begin + step * kDepth, end);
      feed_b.start(stage(step) + TileA::kFloats, begin + step * kDepth, end);
    }
    commit_copies();
  };
  wait_for_previous();
  for (int step = 0; step < kStages - 1; ++step) start(step);

  Multiply multiply;
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    sync_block();  // everybody's copies are there, and nobody reads the stage that is filled next
    start(step + kStages - 1);
    multiply.template step<TileA, TileB>(stage(step), stage(step) + TileA::kFloats);
    if ((step + 1) % kStepsTogether == 0) multiply.sums.fold();
  }
  wait_for_copies<0>();
  launch_next();
  multiply.template for_each<TileA, TileB>([&](int row, int column, float sum) {
    deliver(s, slice, first_row + row, first_column + column, Vector<float, 1>{{sum}}, output, partial);
  });
}

/// Adds up what the splits left.
template <class Output>
GRAPNEL_KERNEL(kBlockThreads)
fold_splits_kernel(ProductSizes s, Output output, device::Global<const float> partial) {
  device::after_previous();
  const std::int64_t i = element(), matrix = static_cast<std::int64_t>(s.m) * s.n;
  if (i >= s.groups * matrix) return;
  const std::int64_t group = i / matrix, at = i % matrix;
  double sum = 0;
  for (int split = 0; split < s.splits; ++split)
    sum += device::load(partial, (group * s.splits + split) * matrix + at);
  output(static_cast<int>(group), static_cast<int>(at / s.n), static_cast<int>(at % s.n),
         device::Vector<float, 1>{{static_cast<float>(sum)}});
}

/// Calls start(partial) for a product in s.splits parts, and adds them up if they are more than one.
template <class Output, class Start>
void run_split(const char* name, const ProductSizes& s, const Output& output, const Start& start) {
  const std::int64_t sums = static_cast<std::int64_t>(s.groups) * s.m * s.n;
  const device::Workspace workspace(
      s.splits == 1 ? 0 : sizeof(float) * static_cast<std::size_t>(s.splits * sums));
  float* partial = workspace.of<float>();
  start(partial);
  if (s.splits > 1) launch_each(name, sums, fold_splits_kernel<Output>, s, output, partial);
}

/// Runs a product of `groups` independent matrices in tiles of kM x kN. Multiply is from multiply.cuh.
template <template <int, int> class Multiply, int kM, int kN, class A, class B, class Output>
void run_product(const char* name, ProductSizes s, const A& a, const B& b, const Output& output) {
  using Index = std::int64_t;
  const Index tiles = static_cast<Index>(tiles_for(s.m, kM)) * tiles_for(s.n, kN) * s.groups;
  // Two blocks for each of about 128 multiprocessors, and no more than 8192 terms in a block.
  const int wanted = std::max(static_cast<int>((255 + tiles) / tiles), tiles_for(s.k, 8192));
  s.splits = std::clamp(wanted, 1, std::max(1, s.k / (kStepsTogether * kDepth)));
  constexpr std::size_t kShared =
      kStages * sizeof(float) * (OperandTile<kM, A::kAlongK>::kFloats + OperandTile<kN, B::kAlongK>::kFloats);
  run_split(name, s, output, [&](float* partial) {
    device::launch(name, {static_cast<unsigned>(tiles * s.splits)}, {kBlockThreads}, kShared,
                   product_kernel<Multiply<kM, kN>, kM, kN, A, B, Output>, s, a, b, output, partial);
  });
}

}  // namespace grapnel::kernels
