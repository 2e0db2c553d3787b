// One step of a block's product: kM x kN sums from kDepth columns of A and rows of B in shared memory, by
// eight warps in two rows of four. With float FMAs, or with tensor cores (mma.sync) on operands rounded to
// TF32 or bfloat16.
#pragma once

#include "grapnel/kernels/common/parts.cuh"
#include "grapnel/kernels/common/precision.h"
#include "grapnel/kernels/gemm/tiled.cuh"

namespace grapnel::kernels {

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
template <int kDown, int kAcross>
struct Sums {
  static constexpr bool kFold = kDown * kAcross * 4 <= 32;
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

template <int kM, int kN>
class MultiplyFloat {
 public:
  template <class TileA, class TileB>
  GRAPNEL_DEVICE void step(device::Shared<float> a, device::Shared<float> b) {
    // Not unrolled: all operands would be fetched ahead, into more registers than two blocks have.
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

  template <class TileA, class TileB, class Body>
  GRAPNEL_DEVICE void for_each(const Body& body) const {
    GRAPNEL_UNROLL
    for (int i = 0; i < kDown; ++i) GRAPNEL_UNROLL
    for (int j = 0; j < 4 * kAcross; ++j)
      body(part_.row + Rows<TileA>::row(part_.group, i), part_.column + Columns<TileB>::row(part_.place, j),
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
  Sums<kDown, kAcross> sums;
};

/// What the two tensor-core products share: fragments of 16 x 8 sums, laid out as device.cuh says. Which k of
/// a step a fragment calls its first is free, if A and B agree: place, place + 4, ... meet no bank twice.
template <int kM, int kN, class Step>
class MultiplyFragments {
 public:
  template <class TileA, class TileB>
  GRAPNEL_DEVICE void step(device::Shared<float> a, device::Shared<float> b) {
    GRAPNEL_UNROLL
    for (int k = 0; k < kDepth; k += Step::kDeep) {
      std::array<std::uint32_t, 4> left[kDown];
      std::array<std::uint32_t, 2> right[kAcross];
      const auto left_at = [&](int row, int depth) {
        return Step::operand([&](int further) {
          return device::load(a, TileA::at(part_.row + part_.group + row, k + part_.place + depth + further));
        });
      };
      const auto right_at = [&](int column, int depth) {
        return Step::operand([&](int further) {
          return device::load(
              b, TileB::at(part_.column + part_.group + column, k + part_.place + depth + further));
        });
      };
      constexpr int kHalf = Step::kDeep / 2;
      GRAPNEL_UNROLL
      for (int i = 0; i < kDown; ++i)
        left[i] = {left_at(16 * i, 0), left_at(16 * i + 8, 0), left_at(16 * i, kHalf),
                   left_at(16 * i + 8, kHalf)};
      GRAPNEL_UNROLL
      for (int j = 0; j < kAcross; ++j) right[j] = {right_at(8 * j, 0), right_at(8 * j, kHalf)};
      GRAPNEL_UNROLL
      for (int i = 0; i < kDown; ++i) GRAPNEL_UNROLL
      for (int j = 0; j < kAcross; ++j) sums.now[i][j] = Step::multiply(left[i], right[j], sums.now[i][j]);
    }
  }

  template <class TileA, class TileB, class Body>
  GRAPNEL_DEVICE void for_each(const Body& body) const {
    GRAPNEL_UNROLL
    for (int i = 0; i < kDown; ++i) GRAPNEL_UNROLL
    for (int j = 0; j < kAcross; ++j) GRAPNEL_UNROLL
    for (int e = 0; e < 4; ++e)
      body(part_.row + 16 * i + part_.group + e / 2 * 8, part_.column + 8 * j + 2 * part_.place + e % 2,
           sums.total(i, j, e));
  }

 private:
  using Part = WarpPart<kM, kN>;
  static constexpr int kDown = Part::kRows / 16, kAcross = Part::kColumns / 8;

  Part part_;

 public:
  Sums<kDown, kAcross> sums;
};

struct StepTf32 {
  static constexpr int kDeep = 8;

  template <class Load>
  GRAPNEL_DEVICE static std::uint32_t operand(const Load& load) {
    return rounded<13>(load(0));
  }
  GRAPNEL_DEVICE static std::array<float, 4> multiply(const std::array<std::uint32_t, 4>& a,
                                                      const std::array<std::uint32_t, 2>& b,
                                                      const std::array<float, 4>& c) {
    return device::multiply_tf32(a, b, c);
  }
};

struct StepBf16 {
  static constexpr int kDeep = 16;

  template <class Load>
  GRAPNEL_DEVICE static std::uint32_t operand(const Load& load) {
    return rounded<16>(load(0)) >> 16 | (rounded<16>(load(4)) & 0xffff0000u);
  }
  GRAPNEL_DEVICE static std::array<float, 4> multiply(const std::array<std::uint32_t, 4>& a,
                                                      const std::array<std::uint32_t, 2>& b,
                                                      const std::array<float, 4>& c) {
    return device::multiply_bf16(a, b, c);
  }
};

template <int kM, int kN>
using MultiplyTf32 = MultiplyFragments<kM, kN, StepTf32>;
template <int kM, int kN>
using MultiplyBf16 = MultiplyFragments<kM, kN, StepBf16>;

/// Runs a product as precision() says, in tiles of 128 x kLargeN where they are enough for a GPU to be busy.
template <int kLargeN, class A, class B, class Output>
void run_precisely(const char* name, const ProductSizes& s, const A& a, const B& b, const Output& output) {
  const auto run = [&]<template <int, int> class Multiply>() {
    if constexpr (A::kWidth == 4 && B::kWidth == 4) {
      constexpr int kEnough = 128;
      const auto large = static_cast<std::int64_t>(tiles_for(s.m, 128)) * tiles_for(s.n, kLargeN) * s.groups;
      if (large >= kEnough && s.m > 64 && s.n > kLargeN / 2)
        return run_product<Multiply, 128, kLargeN>(name, s, a, b, output);
    }
    run_product<Multiply, 64, 64>(name, s, a, b, output);
  };
  switch (precision()) {
    case Precision::fp32:
      return run.template operator()<MultiplyFloat>();
    case Precision::tf32:
      return run.template operator()<MultiplyTf32>();
    case Precision::bf16:
      return run.template operator()<MultiplyBf16>();
  }
}

}  // namespace grapnel::kernels
