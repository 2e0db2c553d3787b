// One step of a block's product by float FMAs: kM x kN sums from 16 columns of A and rows of B in shared
// memory, by eight warps in two rows of four. Rows in memory are padded so that no two lanes meet in a bank.
#pragma once

#include "grapnel/kernels/gemm/tiled.cuh"

namespace grapnel::kernels {

/// One stage of an operand in shared memory: rows (m or n) by kDepth, dense along k or along rows.
template <int rows, bool along_k>
struct PaddedTile {
  static constexpr bool kAlongK = along_k;
  static constexpr int kRows = rows, kDepth = 16;
  static constexpr int kPitch = along_k ? kDepth + 4 : rows + 8;
  static constexpr int kElements = along_k ? rows * kPitch : kDepth * kPitch;
  GRAPNEL_DEVICE static constexpr int at(int row, int k) {
    return along_k ? row * kPitch + k : k * kPitch + row;
  }
  /// Rows r and r + 4 lie half the banks apart; they are written together.
  GRAPNEL_DEVICE static int line(int i) { return i / 8 * 8 + i % 2 * 4 + i / 2 % 4; }
};

/// Where a warp's part of the tile begins, and where its lane stands: 8 groups of 4.
template <int kM, int kN>
struct WarpPart {
  static constexpr int kRows = kM / 2, kColumns = kN / 4;
  int row, column, group, place;

  GRAPNEL_DEVICE WarpPart() {
    const int warp = static_cast<int>(device::thread().x) / 32, lane = static_cast<int>(device::lane());
    row = warp / 4 * kRows;
    column = warp % 4 * kColumns;
    group = lane / 4;
    place = lane % 4;
  }
};

/// A lane's sums, in fours. Small tiles have registers for the sum of what came before beside them, so that
/// no float meets more than a few hundred others. Large ones are for sums that are not long.
template <int kDown, int kAcross, bool folds>
struct Sums {
  static constexpr bool kFold = folds;
  static constexpr int kKept = kFold ? kDown * kAcross : 1;

  std::array<float, 4> now[kDown][kAcross] = {};
  std::array<float, 4> before[kKept] = {};

  GRAPNEL_DEVICE void fold() {
    if constexpr (kFold) {
      GRAPNEL_UNROLL
      for (int i = 0; i < kDown * kAcross; ++i) GRAPNEL_UNROLL
      for (std::size_t e = 0; e < 4; ++e) {
        float& sum = now[i / kAcross][i % kAcross][e];
        before[i][e] += sum;
        sum = 0;
      }
    }
  }
  GRAPNEL_DEVICE float total(int i, int j, int e) const {
    const auto four = static_cast<std::size_t>(e);
    return kFold ? before[i * kAcross + j][four] + now[i][j][four] : now[i][j][four];
  }
};

/// `count` rows of an operand's tile for one of kLanes lanes that share it: every kLanes-th, or runs of four
/// where rows lie side by side. Along k, kDeep elements are read at once, along rows four; lanes meet no bank
/// twice.
template <class Tile, int kLanes, int count, int kDeep>
struct LaneRows {
  GRAPNEL_DEVICE static int row(int lane, int i) {
    return Tile::kAlongK ? lane + kLanes * i : 4 * (lane + kLanes * (i / 4)) + i % 4;
  }

  /// to[i][q] = row i at depth k + q.
  GRAPNEL_DEVICE static void load(float (&to)[count][kDeep], device::Shared<float> tile, int first, int lane,
                                  int k) {
    constexpr int kStepI = Tile::kAlongK ? 1 : 4, kStepQ = Tile::kAlongK ? kDeep : 1;
    GRAPNEL_UNROLL
    for (int q = 0; q < kDeep; q += kStepQ) GRAPNEL_UNROLL
    for (int i = 0; i < count; i += kStepI) {
      const auto some = device::load_vector<kStepI * kStepQ>(tile, Tile::at(first + row(lane, i), k + q));
      GRAPNEL_UNROLL
      for (int e = 0; e < kStepI * kStepQ; ++e) (Tile::kAlongK ? to[i][e] : to[i + e][q]) = some[e];
    }
  }
};

template <int m, int n>
class MultiplyFloat {
 public:
  using Element = float;
  static constexpr int kM = m, kN = n, kDepth = 16, kThreads = kBlockThreads,
                       kBlocks = kM * kN > 64 * 64 ? 1 : 2;
  template <int rows, class Source>
  using Tile = PaddedTile<rows, Source::kAlongK>;

  template <class TileA, class TileB>
  GRAPNEL_DEVICE void step(device::Shared<float> a, device::Shared<float> b) {
    GRAPNEL_UNROLL_TWICE
    for (int k = 0; k < kDepth; k += kTogether) {
      float left[kDown][kTogether], right[4 * kAcross][kTogether];
      Rows<TileA>::load(left, a, part_.row, part_.group, k);
      Columns<TileB>::load(right, b, part_.column, part_.place, k);
      GRAPNEL_UNROLL
      for (int q = 0; q < kTogether; ++q) GRAPNEL_UNROLL
      for (int i = 0; i < kDown; ++i) GRAPNEL_UNROLL
      for (int j = 0; j < 4 * kAcross; ++j)
        sums.now[i][j / 4][static_cast<std::size_t>(j % 4)] += left[i][q] * right[j][q];
    }
  }

  template <class TileA, class TileB>
  GRAPNEL_DEVICE void leave(device::Shared<float> to, int pitch, int first, int rows) const {
    if (part_.row < first || part_.row >= first + rows) return;
    GRAPNEL_UNROLL
    for (int i = 0; i < kDown; ++i) GRAPNEL_UNROLL
    for (int j = 0; j < 4 * kAcross; ++j)
      device::store(to,
                    (part_.row - first + Rows<TileA>::row(part_.group, i)) * pitch + part_.column +
                        Columns<TileB>::row(part_.place, j),
                    sums.total(i, j / 4, j % 4));
  }

 private:
  using Part = WarpPart<kM, kN>;
  static constexpr int kDown = Part::kRows / 8, kAcross = Part::kColumns / 16;
  static constexpr int kTogether = 2;
  template <class TileA>
  using Rows = LaneRows<TileA, 8, kDown, kTogether>;
  template <class TileB>
  using Columns = LaneRows<TileB, 4, 4 * kAcross, kTogether>;

  Part part_;

 public:
  Sums<kDown, kAcross, kDown * kAcross <= 8> sums;
};

/// Whether tiles are large or 64 x 64, and among how many blocks each one's sum is split.
struct FloatTiling {
  bool large;
  int splits;
};
/// Tiles are large, 128 x large_n, where they are enough for a GPU to be busy and operands lie in fours.
inline FloatTiling float_tiling(const ProductSizes& s, int large_n, bool in_fours) {
  constexpr int kEnough = 128, kDepth = 16;
  const auto tiles = [&](int m, int n) {
    return static_cast<std::int64_t>(tiles_for(s.m, m)) * tiles_for(s.n, n) * s.groups;
  };
  const bool large = in_fours && tiles(128, large_n) >= kEnough && s.m > 64 && s.n > large_n / 2;
  const std::int64_t all = large ? tiles(128, large_n) : tiles(64, 64);
  // Two blocks for each of about 128 multiprocessors.
  const int wanted = std::max(static_cast<int>((255 + all) / all), tiles_for(s.k, kMostTerms));
  return {large, std::clamp(wanted, 1, std::max(1, s.k / (kStepsTogether * kDepth)))};
}

/// Runs a product by float FMAs. Gives what run_product does.
template <int kLargeN, class A, class B, class Output>
int run_float_product(const char* name, ProductSizes s, const A& a, const B& b, const Output& output) {
  constexpr bool kInFours = A::kWidth == 4 && B::kWidth == 4;
  const FloatTiling tiling = float_tiling(s, kLargeN, kInFours);
  s.splits = tiling.splits;
  if constexpr (kInFours)
    if (tiling.large) return run_product<MultiplyFloat<128, kLargeN>>(name, s, a, b, output);
  return run_product<MultiplyFloat<64, 64>>(name, s, a, b, output);
}

}  // namespace grapnel::kernels
