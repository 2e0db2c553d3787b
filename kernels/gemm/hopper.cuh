// The product of tiled.cuh for Hopper (sm_90a): C (M,N) = A (M,K) B (K,N), both operands fetched by tensor
// maps and multiplied by warpgroups from shared memory, on tensor cores whatever the precision.
//
// A block makes a tile of 128 x kN. Its first warpgroup has one thread that keeps a ring of stages full; the
// other two multiply 64 rows each and say when a stage is free. Every so many steps they add their sums to
// those of before, as tensor cores add less exactly the longer a sum gets. A long K is split between blocks
// as in tiled.cuh. It has never run on hardware, only on the model of tests/cuda_host.
#pragma once

#include <algorithm>
#include <limits>

#include "grapnel/kernels/common/hopper.cuh"
#include "grapnel/kernels/gemm/operands.cuh"
#include "grapnel/kernels/gemm/tiled.cuh"

namespace grapnel::kernels {

/// A step is 128 bytes of k: 32 floats, multiplied as TF32, or 64 BFloat16.
template <class Way>
inline constexpr int kHopperDepth = 128 / static_cast<int>(sizeof(ElementOf<Way>));
template <class Way>
inline constexpr device::Rounding kHopperRounding =
    std::is_same_v<Way, AsTf32> ? device::Rounding::tf32 : device::Rounding::none;
/// Steps until sums are added to those before.
template <class Way>
inline constexpr int kHopperTogether = Way::kParts == 1 ? kStepsTogether : 1;
/// Products of parts in a step.
template <class Way>
inline constexpr int kProducts = Way::kParts*(Way::kParts + 1) / 2;
inline constexpr int kHopperRows = 128;
inline constexpr unsigned kHopperThreads = 384;
/// Tiles 256 wide have no registers for sums of before: a block adds up no more steps than these.
inline constexpr int kMostUnfolded = 512;

/// Blocks that a multiprocessor holds. Of narrow tiles two: one multiplies while the other begins or
/// delivers. Stages of several parts would be too few for it.
template <class Way>
constexpr int hopper_blocks(int width) {
  return width == 64 && Way::kParts == 1 ? 2 : 1;
}

/// What a block of tiles kN wide has in shared memory: as many stages as fit, each with rows of A's parts,
/// then rows of B's; a barrier that says a stage is full for each, then one that says it is empty.
template <class Way, int kN>
struct HopperStages {
  static constexpr int kBytes = Way::kParts * (kHopperRows + kN) * 128,
                       kCount = 216 * 1024 / hopper_blocks<Way>(kN) / kBytes;
  static constexpr std::size_t kAllBytes = kCount * (kBytes + 2 * sizeof(device::Barrier));
};

/// Rows (m or n) of a matrix that lies along k: an operand for this kernel. Any operand has
///   kMajor     which index its elements lie along
///   void load(Shared<Element> to, int part, int row, int step, Shared<Barrier> full) const
/// which starts to copy 128 bytes of each of its rows from `row` on, swizzled, or if it lies along rows, one
/// after the other 64 of them for each of the step's 64 k. What lies beyond the edges is zeros, or is
/// multiplied for nobody.
template <class Way>
struct MatrixRows {
  static constexpr device::Major kMajor = device::Major::k;
  device::TensorMap map;

  GRAPNEL_DEVICE void load(device::Shared<ElementOf<Way>> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    device::load_tile(to, map, std::array{step * kHopperDepth<Way>, row, part}, full);
  }
};

/// `rows` rows of `columns` elements, `pitch` apart and aligned as with_operand gives them; `together` of
/// them are fetched at once.
template <class Way>
MatrixRows<Way> matrix_rows(const ElementOf<Way>* data, std::int64_t rows, std::int64_t columns,
                            std::int64_t pitch, std::uint32_t together) {
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const std::uint64_t row = u(pitch) * sizeof(ElementOf<Way>);
  return {device::make_tensor_map(data,
                                  device::TensorLayout{3,
                                                       {u(columns), u(rows), Way::kParts},
                                                       {sizeof(ElementOf<Way>), row, u(rows) * row},
                                                       {kHopperDepth<Way>, together, 1}},
                                  device::Swizzle::bytes128, kHopperRounding<Way>)};
}

/// Rows from `rows` on, as an Operand's lie in shared memory.
template <class Operand, class T>
GRAPNEL_DEVICE device::Matrix operand_matrix(device::Shared<T> rows) {
  constexpr unsigned kBetweenSpans = Operand::kMajor == device::Major::k ? 0 : 64 * 128;
  return device::matrix(rows, device::Swizzle::bytes128, kBetweenSpans, 1024);
}
/// Bytes from 32 bytes of k to the next.
template <class Operand>
inline constexpr unsigned kNextDepth = Operand::kMajor == device::Major::k ? 32 : 16 * 128;

/// `s.k` counts steps. Sums are delivered one by one, or in fours.
template <class Way, int kN, class A, class B, class Output>
GRAPNEL_KERNEL(kHopperThreads, hopper_blocks<Way>(kN))
hopper_product_kernel(ProductSizes s, GRAPNEL_IN_PLACE A a, GRAPNEL_IN_PLACE B b, Output output,
                      bool in_fours, device::Global<float> partial) {
  using namespace device;
  using T = ElementOf<Way>;
  using Stages = HopperStages<Way, kN>;
  constexpr int kRing = Stages::kCount;
  constexpr bool kAlone = hopper_blocks<Way>(kN) == 1;  // else all threads have the registers they need
  const int across = tiles_for(s.m, kHopperRows), down = tiles_for(s.n, kN);
  const int tile = static_cast<int>(block().x), split = tile / across / down;
  const int first_row = tile % across * kHopperRows, first_column = tile / across % down * kN;
  const auto boundary = [&](int i) { return static_cast<int>(std::int64_t{s.k} * i / s.splits); };
  const int begin = boundary(split), steps = boundary(split + 1) - begin;
  const auto rows_of_a = [&](int stage) {
    return shared_memory<T>(static_cast<unsigned>(stage) * Stages::kBytes);
  };
  const auto rows_of_b = [&](int stage) {
    return rows_of_a(stage) + Way::kParts * kHopperRows * kHopperDepth<Way>;
  };
  const Shared<Barrier> full = shared_memory<Barrier>(kRing * Stages::kBytes), empty = full + kRing;
  const int t = static_cast<int>(thread().x);
  if (t == 0) {
    prefetch_map(a.map);
    prefetch_map(b.map);
    for (int stage = 0; stage < kRing; ++stage) {
      init_barrier(full + stage, 1);
      init_barrier(empty + stage, 2);
    }
    fence_barrier_init();
  }
  wait_for_previous();
  sync_block();

  if (t < 128) {
    if constexpr (kAlone) give_back_registers<40>();
    if (t < 32 && elect_one()) {
      for (int i = 0; i < steps; ++i) {
        const int stage = i % kRing;
        wait(empty + stage, i / kRing % 2 == 0);
        arrive_expecting(full + stage, Stages::kBytes);
        for (int part = 0; part < Way::kParts; ++part) {
          const int rows = part * kHopperDepth<Way>;
          a.load(rows_of_a(stage) + rows * kHopperRows, part, first_row, begin + i, full + stage);
          b.load(rows_of_b(stage) + rows * kN, part, first_column, begin + i, full + stage);
        }
      }
    }
    return;
  }

  if constexpr (kAlone) ask_for_registers<232>();
  const int half = t / 128 * 64 - 64;  // this warpgroup's first row of the tile
  constexpr bool kFolds = kN <= 128;
  constexpr int kTogether = kFolds ? kHopperTogether<Way> : kMostUnfolded;
  device::Sums<kN> now;
  float before[kFolds ? kN / 2 : 1] = {};
  const auto release = [&](int i) {
    if (t % 128 == 0) arrive(empty + i % kRing);
  };
  for (int first = 0; first < steps; first += kTogether) {
    const int end = first + kTogether < steps ? first + kTogether : steps;
    for (int i = first; i < end; ++i) {
      const int stage = i % kRing;
      wait(full + stage, i / kRing % 2);
      fence_products(now);
      const Matrix of_a = operand_matrix<A>(rows_of_a(stage) + half * kHopperDepth<Way>),
                   of_b = operand_matrix<B>(rows_of_b(stage));
      bool add = i > first;
      // Products of small parts first, while the sums are small: adding to large ones drops more.
      GRAPNEL_UNROLL
      for (int parts = Way::kParts - 1; parts >= 0; --parts) GRAPNEL_UNROLL
      for (int part = 0; part <= parts; ++part) GRAPNEL_UNROLL
      for (int k = 0; k < 4; ++k) {
        multiply_async<T, A::kMajor, B::kMajor>(now, of_a + (part * kHopperRows * 128 + k * kNextDepth<A>),
                                                of_b + ((parts - part) * kN * 128 + k * kNextDepth<B>), add);
        add = true;
      }
      commit_products();
      wait_for_products<1>();
      if (i > first) release(i - 1);
    }
    wait_for_products<0>(now);
    release(end - 1);
    if constexpr (kFolds) GRAPNEL_UNROLL
    for (int e = 0; e < kN / 2; ++e) before[e] += now[e];
  }
  launch_next();
  const auto sum = [&](int e) { return kFolds ? before[kFolds ? e : 0] : steps > 0 ? now[e] : 0; };
  // Through shared memory, so that a warp writes whole rows; with this pitch no two lanes meet in a bank.
  constexpr int kPitch = kN + 8;
  const Shared<float> sums = shared_memory<float>();
  sync_named(1, 256);  // nobody multiplies what lies there
  const int row = half + t % 128 / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
  GRAPNEL_UNROLL
  for (int e = 0; e < kN / 2; e += 2)
    store_vector(sums, (row + e / 2 % 2 * 8) * kPitch + column + e / 4 * 8,
                 Vector<float, 2>{{sum(e), sum(e + 1)}});
  sync_named(1, 256);
  if constexpr (requires { output.moments; })
    if (sums_up(s, output))
      sum_up_tile<kHopperRows, kN, 256>(s, first_row, first_column, sums, kPitch, t - 128, output.moments);
  deliver_tile<kHopperRows, kN, 256>(s, split, first_row, first_column, sums, kPitch, t - 128, in_fours,
                                     output, partial);
}

/// How wide tiles are, and among how many blocks each one's sum is split.
struct Tiling {
  int width, splits;
};
/// What ends first by the model in tools/bench, in clocks: 132 multiprocessors multiply what they have of
/// blocks, or read shared memory for it, while L2 gives what all fetch and takes what they leave of split
/// sums. A second kernel starts and adds those up, from memory if they are many.
template <class Way>
Tiling tiling_for(int m, int n, int steps) {
  // A block takes on no fewer than 256 terms' products.
  constexpr int kFewest = std::max(1, 256 / kHopperDepth<Way> / kProducts<Way>);
  constexpr int kHundredColumns = std::is_same_v<Way, AsTf32> ? 465 : 482;  // of a step
  const int most = std::clamp(steps / kFewest, 1, 128);
  const std::int64_t matrix = std::int64_t{4} * m * n;  // bytes
  Tiling best{};
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const int width : {64, 128, 256}) {
    if (width == 64 ? n > 64 : n <= width / 2) continue;
    if (width == 256 && Way::kParts > 1) continue;
    const std::int64_t tiles = std::int64_t{tiles_for(m, kHopperRows)} * tiles_for(n, width),
                       fetched = tiles * steps * 128 * Way::kParts * (kHopperRows + width);
    const int step = std::max(kProducts<Way> * width * kHundredColumns / 100,
                              kProducts<Way> * 2 * (64 + width) + Way::kParts * (kHopperRows + width)) +
                     (width == 256 ? 0 : 200 / kHopperTogether<Way>);  // sums are added to those before
    for (int splits = width == 256 ? std::max(tiles_for(steps, kMostUnfolded), 1) : 1; splits <= most;
         ++splits) {
      const std::int64_t each = (tiles * splits + 131) / 132,
                         held = std::min<std::int64_t>(each, hopper_blocks<Way>(width)),
                         left = splits == 1 ? 0 : matrix * splits, moved = left + matrix;
      const std::int64_t cost =
          std::max(each * (tiles_for(steps, splits) * step + 3000 / held), (fetched + left) / 5128) +
          (splits == 1 ? 0 : 3686 + moved / (moved <= 30'000'000 ? 2564 : 1709));
      if (cost >= least) continue;
      least = cost;
      best = {width, splits};
    }
  }
  return best;
}

/// Runs one product (s.groups is 1), whose s.k counts steps. make_b(width) is B for tiles so wide. Gives what
/// run_product does.
template <class Way, class A, class MakeB, class Output>
int run_hopper_product(const char* name, ProductSizes s, const A& a, const MakeB& make_b,
                       const Output& output) {
  const Tiling tiling = tiling_for<Way>(s.m, s.n, s.k);
  s.splits = tiling.splits;
  const auto run = [&]<int kN>() {
    auto b = make_b(kN);
    run_split(name, s, output, [&](float* partial) {
      const std::int64_t tiles = std::int64_t{tiles_for(s.m, kHopperRows)} * tiles_for(s.n, kN);
      device::launch(name, {static_cast<unsigned>(tiles * s.splits)}, {kHopperThreads},
                     HopperStages<Way, kN>::kAllBytes, hopper_product_kernel<Way, kN, A, decltype(b), Output>,
                     s, a, b, output, s.n % 4 == 0 && output.in_fours(), partial);
    });
    return sums_up(s, output) ? TilePieces<kHopperRows, kN, 256>::kLength : 0;
  };
  if constexpr (Way::kParts == 1)
    if (tiling.width == 256) return run.template operator()<256>();
  return tiling.width == 128 ? run.template operator()<128>() : run.template operator()<64>();
}

}  // namespace grapnel::kernels
