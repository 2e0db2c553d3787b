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
  static constexpr int kRows = rows, kDepth = 64 / static_cast<int>(sizeof(T)), kElements = rows * kDepth;

  GRAPNEL_DEVICE static int at(int row, int k) {
    return along_k ? row * kDepth + piece(k, row / 2 % 4)
                   : k * rows + piece(row, kTransposed ? k % 8 : 2 * (k % 4));
  }
  GRAPNEL_DEVICE static int line(int i) { return i; }

  /// Whether fragments are made by ldmatrix, transposed if need be: only of 16 bits where rows lie side by
  /// side. Else a lane reads four neighbouring rows.
  static constexpr bool kTransposed = !along_k && sizeof(T) == 2, kByMatrices = along_k || kTransposed;

 private:
  static constexpr int kPiece = 16 / static_cast<int>(sizeof(T));
  GRAPNEL_DEVICE static int piece(int i, int change) { return (i / kPiece ^ change) * kPiece + i % kPiece; }
};

/// Fragments of `rows` rows of an operand's tile by 32 bytes of k: of 16 rows each four registers, as
/// device.cuh says of A. Of B's columns the first and third are one fragment, the others a second.
template <class Tile, class T, int rows>
struct LaneFragments {
  using Registers = std::array<std::uint32_t, 4>;

  /// Which row register 0 or 1 of fragment i holds for a group of lanes.
  GRAPNEL_DEVICE static int row(int i, int half, int group) {
    return Tile::kByMatrices ? 16 * i + 8 * half + group : i / 2 * 32 + 4 * group + i % 2 * 2 + half;
  }

  GRAPNEL_DEVICE static void load(Registers (&to)[rows / 16], device::Shared<T> tile, int first, int k) {
    const int lane = static_cast<int>(device::lane());
    if constexpr (Tile::kByMatrices) {
      // Matrices: rows 0 to 7 and 8 to 15 at the first 16 bytes of k, then at the others.
      const int matrix = lane / 8, line = lane % 8, further = matrix / 2 * 16 / static_cast<int>(sizeof(T));
      GRAPNEL_UNROLL
      for (int i = 0; i < rows / 16; ++i) {
        const int row = first + 16 * i + matrix % 2 * 8;
        to[i] = device::load_matrices<Tile::kTransposed>(
            tile + (Tile::kAlongK ? Tile::at(row + line, k + further) : Tile::at(row, k + further + line)));
      }
    } else {
      GRAPNEL_UNROLL
      for (int i = 0; i < rows / 16; i += 2) GRAPNEL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const auto four =
            device::load_vector<4>(tile, Tile::at(first + i * 16 + lane / 4 * 4, k + lane % 4 + 4 * half));
        GRAPNEL_UNROLL
        for (int e = 0; e < 4; ++e)
          to[i + e / 2][static_cast<std::size_t>(e % 2 + 2 * half)] = bits_of(four[e]);
      }
    }
    if constexpr (Tile::kRounds) GRAPNEL_UNROLL
    for (int i = 0; i < rows / 16; ++i) GRAPNEL_UNROLL
    for (std::uint32_t& bits : to[i]) bits = nearest_tf32(bits);
  }
};

template <class Way, int m, int n>
class MultiplyFragments {
 public:
  using Element = ElementOf<Way>;
  static constexpr int kM = m, kN = n, kDepth = 64 / static_cast<int>(sizeof(Element)), kThreads = 128;
  /// As many as registers allow: a warp's 64 x 64 sums take 128 a lane; smaller tiles fold theirs.
  static constexpr int kBlocks = kM * kN > 128 * 64 ? 2 : kM* kN > 64 * 64 ? 3 : 4;
  template <int rows, class Source>
  using Tile = FragmentTile<Element, rows, Source::kAlongK, Source::kRounded>;

  GRAPNEL_DEVICE MultiplyFragments() {
    const int warp = static_cast<int>(device::thread().x) / 32;
    row_ = warp / 2 * kRows;
    column_ = warp % 2 * kColumns;
  }

  template <class TileA, class TileB>
  GRAPNEL_DEVICE void step(device::Shared<Element> a, device::Shared<Element> b) {
    GRAPNEL_UNROLL
    for (int k = 0; k < kDepth; k += kDepth / 2) {
      std::array<std::uint32_t, 4> left[kRows / 16], right[kColumns / 16];
      Rows<TileA>::load(left, a, row_, k);
      Columns<TileB>::load(right, b, column_, k);
      GRAPNEL_UNROLL
      for (int i = 0; i < kRows / 16; ++i) GRAPNEL_UNROLL
      for (int j = 0; j < kColumns / 8; ++j) {
        const auto& two = right[j / 2];
        const auto half = static_cast<std::size_t>(j % 2);
        sums.now[i][j] = multiply(left[i], {two[half], two[half + 2]}, sums.now[i][j]);
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
  using Rows = LaneFragments<TileA, Element, kRows>;
  template <class TileB>
  using Columns = LaneFragments<TileB, Element, kColumns>;

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
  Sums<kRows / 16, kColumns / 8, (kM * kN <= 128 * 64)> sums;
};

/// What ends first if 128 multiprocessors each make their blocks at the same time, by the model in
/// tools/bench, in units of 64 clocks: a step takes what shared memory or tensor cores need, and a block one
/// step more; one block alone on a multiprocessor takes as long as one and a half. Leaving and adding parts
/// of sums takes 80, and as much as L2 needs.
struct FragmentTiling {
  int m, n, splits;
};
template <class Way>
FragmentTiling fragment_tiling(const ProductSizes& s) {
  constexpr int kDepth = 64 / static_cast<int>(sizeof(ElementOf<Way>)), kFewest = 4;
  const int steps = tiles_for(s.k, kDepth), most = std::clamp(steps / kFewest, 1, 128);
  FragmentTiling best{};
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const auto& [m, n, step] : {std::array{128, 128, 8}, {128, 64, 5}, {64, 64, 3}}) {
    const std::int64_t tiles = std::int64_t{tiles_for(s.m, m)} * tiles_for(s.n, n) * s.groups;
    const int fewest = std::min(m * n > 128 * 64 ? tiles_for(s.k, kMostTerms) : 1, most);
    for (int splits = std::max(fewest, 1); splits <= most; ++splits) {
      const std::int64_t blocks = tiles * splits, each = (blocks + 127) / 128;
      const std::int64_t work = std::max<std::int64_t>(2 * each, 3) * (tiles_for(steps, splits) + 1) * step,
                         left = splits == 1 ? 0 : 80 + each * m * n / 320;
      if (work + 2 * left >= least) continue;
      least = work + 2 * left;
      best = {m, n, splits};
    }
  }
  return best;
}

template <class Way, class A, class B, class Output>
void run_fragment_product(const char* name, ProductSizes s, const A& a, const B& b, const Output& output) {
  const FragmentTiling tiling = fragment_tiling<Way>(s);
  s.splits = tiling.splits;
  if (tiling.n == 128)
    run_product<MultiplyFragments<Way, 128, 128>>(name, s, a, b, output);
  else if (tiling.m == 128)
    run_product<MultiplyFragments<Way, 128, 64>>(name, s, a, b, output);
  else
    run_product<MultiplyFragments<Way, 64, 64>>(name, s, a, b, output);
}

}  // namespace grapnel::kernels
