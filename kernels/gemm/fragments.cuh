// One step of a block's product by tensor cores of sm_80 and later (ldmatrix, mma.sync): kM x kN sums from 64
// bytes of k, TF32 or bfloat16, by four warps in two rows of two. Sums are float32.
//
// An operand lies in shared memory as it does in global memory, along k or along rows, in pieces of 16 bytes
// that change places from line to line, so that neither copies nor reads meet a bank twice.
#pragma once

#include <limits>

#include "grapnel/kernels/gemm/multiply.cuh"
#include "grapnel/kernels/gemm/operands.cuh"

namespace grapnel::kernels {

/// One stage of an operand. `rounded`: floats are TF32 already.
template <class T, int rows, bool along_k, bool rounded>
struct FragmentTile {
  static constexpr bool kAlongK = along_k, kRounds = std::is_same_v<T, float> && !rounded;
  static constexpr int kRows = rows, kDepth = 64 / static_cast<int>(sizeof(T)), kElements = rows * kDepth,
                       kPiece = 16 / static_cast<int>(sizeof(T));
  /// Whether fragments are made by ldmatrix, transposed if need be: only of 16 bits where rows lie side by
  /// side. Else a lane reads four neighbouring rows.
  static constexpr bool kTransposed = !along_k && sizeof(T) == 2, kByMatrices = along_k || kTransposed;

  GRAPNEL_DEVICE static constexpr int at(int row, int k) {
    return along_k ? row * kDepth + moved(k, row / 2 % 4)
                   : k * rows + moved(row, kTransposed ? k % 8 : 2 * (k % 4));
  }
  GRAPNEL_DEVICE static constexpr int line(int i) { return i; }

 private:
  GRAPNEL_DEVICE static constexpr int moved(int i, int change) {
    return (i / kPiece ^ change) * kPiece + i % kPiece;
  }
};

/// What a lane takes of an operand's tile: fragments of `rows` rows by 32 bytes of k, four registers for each
/// 16 rows: one of A, or two of B, as device.cuh says.
template <class Tile, class T, int rows, bool of_b>
class LaneFragments {
 public:
  using Registers = std::array<std::uint32_t, 4>;

  /// `first`: row of the tile.
  GRAPNEL_DEVICE explicit LaneFragments(int first) {
    const int lane = static_cast<int>(device::lane());
    // Four matrices: of A rows 0 to 7 and 8 to 15 at the first 16 bytes of k, then at the others; of B
    // columns 0 to 7 at the first and the others, then 8 to 15.
    const int matrix = lane / 8, line = lane % 8, down = of_b ? matrix / 2 : matrix % 2,
              further = (of_b ? matrix % 2 : matrix / 2) * Tile::kPiece;
    for (int i = 0; i < kStarts; ++i)
      starts_[i] = Tile::kAlongK       ? Tile::at(first + 8 * down + line, i * kHalf + further)
                   : Tile::kTransposed ? Tile::at(first + 16 * i + 8 * down, further + line)
                                       : Tile::at(first + lane / 4 * 4, lane % 4);
  }

  /// Which row the first or second register of a fragment of B, or of a pair of A's, holds for a group of
  /// lanes.
  GRAPNEL_DEVICE static int row(int i, int half, int group) {
    return Tile::kByMatrices ? 16 * i + 8 * half + group : i / 2 * 32 + 4 * group + i % 2 * 2 + half;
  }

  /// The step's first 32 bytes of k, or the others.
  GRAPNEL_DEVICE void load(Registers (&to)[rows / 16], device::Shared<T> tile, int k) const {
    GRAPNEL_UNROLL
    for (int i = 0; i < rows / 16; ++i) {
      if constexpr (Tile::kByMatrices) {
        to[i] = device::load_matrices<Tile::kTransposed>(
            tile + (Tile::kAlongK ? starts_[k] + Tile::at(16 * i, 0) : starts_[i] + Tile::at(0, k * kHalf)));
      } else if (i % 2 == 0) {
        GRAPNEL_UNROLL
        for (int half = 0; half < 2; ++half) {
          const auto four =
              device::load_vector<4>(tile, starts_[0] + 16 * i + Tile::at(0, k * kHalf + 4 * half));
          GRAPNEL_UNROLL
          for (int e = 0; e < 4; ++e)
            to[i + e / 2][static_cast<std::size_t>(of_b ? e % 2 * 2 + half : e % 2 + half * 2)] =
                bits_of(four[e]);
        }
      }
    }
    if constexpr (Tile::kRounds) GRAPNEL_UNROLL
    for (int i = 0; i < rows / 16; ++i) GRAPNEL_UNROLL
    for (std::uint32_t& bits : to[i]) bits = nearest_tf32(float_of(bits));
  }

 private:
  static constexpr int kHalf = Tile::kDepth / 2;  // the k of 32 bytes
  /// Places that are constant distances from others: of each half of a step, of each 16 rows, or all.
  static constexpr int kStarts = Tile::kAlongK ? 2 : Tile::kTransposed ? rows / 16 : 1;
  int starts_[kStarts];
};

template <class Way, int m, int n>
class MultiplyFragments {
 public:
  using Element = ElementOf<Way>;
  static constexpr int kM = m, kN = n, kDepth = 64 / static_cast<int>(sizeof(Element)), kThreads = 128;
  /// As many as registers allow: a warp's 64 x 64 sums take 128 a lane.
  static constexpr int kBlocks = m == 128 && n == 128 ? 2 : 3;
  static constexpr bool kFolds = m == 64;
  template <int rows, class Source>
  using Tile = FragmentTile<Element, rows, Source::kAlongK, Source::kRounded>;

  GRAPNEL_DEVICE MultiplyFragments() {
    const int warp = static_cast<int>(device::thread().x) / 32;
    row_ = warp / 2 * kRows;
    column_ = warp % 2 * kColumns;
  }

  template <class TileA, class TileB>
  GRAPNEL_DEVICE void step(device::Shared<Element> a, device::Shared<Element> b) {
    const Rows<TileA> rows(row_);
    const Columns<TileB> columns(column_);
    GRAPNEL_UNROLL
    for (int k = 0; k < 2; ++k) {
      std::array<std::uint32_t, 4> left[kRows / 16], right[kColumns / 16];
      rows.load(left, a, k);
      columns.load(right, b, k);
      GRAPNEL_UNROLL
      for (int i = 0; i < kRows / 16; ++i) GRAPNEL_UNROLL
      for (int j = 0; j < kColumns / 8; ++j) {
        const auto& two = right[j / 2];
        const auto half = static_cast<std::size_t>(j % 2 * 2);
        sums.now[i][j] = multiply(left[i], {two[half], two[half + 1]}, sums.now[i][j]);
      }
    }
  }

  template <class TileA, class TileB>
  GRAPNEL_DEVICE void leave(device::Shared<float> to, int pitch, int first, int rows) const {
    if (row_ < first || row_ >= first + rows) return;
    const int group = static_cast<int>(device::lane()) / 4, place = static_cast<int>(device::lane()) % 4;
    const auto at = [&](int i, int j, int e) {
      return (row_ - first + Rows<TileA>::row(i, e / 2, group)) * pitch + column_ +
             Columns<TileB>::row(j / 2, j % 2, 2 * place + e % 2);
    };
    GRAPNEL_UNROLL
    for (int i = 0; i < kRows / 16; ++i) GRAPNEL_UNROLL
    for (int j = 0; j < kColumns / 8; ++j) GRAPNEL_UNROLL
    for (int e = 0; e < 4; ++e)
      if constexpr (TileB::kByMatrices) {
        if (e % 2 == 0)
          device::store_vector(to, at(i, j, e),
                               device::Vector<float, 2>{{sums.total(i, j, e), sums.total(i, j, e + 1)}});
      } else if (j % 4 == 0) {
        device::store_vector(to, at(i, j, e),
                             device::Vector<float, 4>{{sums.total(i, j, e), sums.total(i, j + 1, e),
                                                       sums.total(i, j + 2, e), sums.total(i, j + 3, e)}});
      }
  }

 private:
  static constexpr int kRows = kM / 2, kColumns = kN / 2;  // of a warp
  template <class TileA>
  using Rows = LaneFragments<TileA, Element, kRows, false>;
  template <class TileB>
  using Columns = LaneFragments<TileB, Element, kColumns, true>;

  GRAPNEL_DEVICE static std::array<float, 4> multiply(const std::array<std::uint32_t, 4>& a,
                                                      const std::array<std::uint32_t, 2>& b,
                                                      const std::array<float, 4>& c) {
    if constexpr (std::is_same_v<Element, float>)
      return device::multiply_tf32(a, b, c);
    else
      return device::multiply_bf16(a, b, c);
  }

  int row_, column_;

 public:
  Sums<kRows / 16, kColumns / 8, kFolds> sums;
};

/// How large tiles are, and among how many blocks each one's sum is split.
struct FragmentTiling {
  int m, n, splits;
};
/// What ends first if 128 multiprocessors share the blocks, by the model in tools/bench, in units of 64
/// clocks: a block takes one step more than it has, and if it is alone on its multiprocessor half as long
/// again. Leaving and adding parts of sums takes 80, and what L2 needs.
template <class Way>
FragmentTiling fragment_tiling(const ProductSizes& s) {
  constexpr int kDepth = 64 / static_cast<int>(sizeof(ElementOf<Way>)), kFewestSteps = 4;
  const int steps = tiles_for(s.k, kDepth), most = std::max(steps / kFewestSteps, 1);
  FragmentTiling best{};
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  constexpr int kTiles[][3] = {{128, 128, 8}, {128, 64, 5}, {64, 64, 3}};
  for (const auto& [m, n, step] : kTiles) {
    const std::int64_t tiles = std::int64_t{tiles_for(s.m, m)} * tiles_for(s.n, n) * s.groups;
    const int first = m == 64 ? 1 : std::clamp(tiles_for(s.k, kMostTerms), 1, most);
    for (int splits = first; splits <= std::min(most, first + 127); ++splits) {
      const std::int64_t each = (tiles * splits + 127) / 128, left = 80 + each * m * n / 320;
      const std::int64_t cost = std::max<std::int64_t>(2 * each, 3) * (tiles_for(steps, splits) + 1) * step +
                                (splits == 1 ? 0 : 2 * left);
      if (cost >= least) continue;
      least = cost;
      best = {m, n, splits};
    }
  }
  return best;
}

/// Gives what run_product does.
template <class Way, class A, class B, class Output>
int run_fragment_product(const char* name, ProductSizes s, const A& a, const B& b, const Output& output) {
  const FragmentTiling tiling = fragment_tiling<Way>(s);
  s.splits = tiling.splits;
  if (tiling.n == 128) return run_product<MultiplyFragments<Way, 128, 128>>(name, s, a, b, output);
  if (tiling.m == 128) return run_product<MultiplyFragments<Way, 128, 64>>(name, s, a, b, output);
  return run_product<MultiplyFragments<Way, 64, 64>>(name, s, a, b, output);
}

}  // namespace grapnel::kernels
