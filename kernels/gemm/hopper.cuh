// The product of tiled.cuh for Hopper (sm_90a), in TF32 or bfloat16: C (M,N) = A (M,K) B (K,N), both operands
// fetched by tensor maps and multiplied by warpgroups from shared memory.
//
// A block makes a tile of 128 x kN. Its first warpgroup has one thread that keeps a ring of stages full; the
// other two multiply 64 rows each and say when a stage is free. Every so many steps they add their sums to
// those of before, as tensor cores add less exactly the longer a sum gets. A long K is split between blocks
// as in tiled.cuh. It has never run on hardware, only on the model of tests/cuda_host.
#pragma once

#include <algorithm>

#include "grapnel/kernels/common/hopper.cuh"
#include "grapnel/kernels/gemm/multiply.cuh"

namespace grapnel::kernels {

/// A step is 128 bytes of k: 32 floats, multiplied as TF32, or 64 BFloat16.
template <class T>
inline constexpr int kHopperDepth = 128 / static_cast<int>(sizeof(T));
template <class T>
inline constexpr device::Rounding kHopperRounding =
    std::is_same_v<T, float> ? device::Rounding::tf32 : device::Rounding::none;
inline constexpr int kHopperRows = 128;
inline constexpr unsigned kHopperThreads = 384;

/// What a block of tiles kN wide has in shared memory: as many stages as fit, each with rows of A, then rows
/// of B; a barrier that says a stage is full for each, then one that says it is empty.
template <int kN>
struct HopperStages {
  static constexpr int kBytes = (kHopperRows + kN) * 128, kCount = 192 * 1024 / kBytes;
  static constexpr std::size_t kAllBytes = kCount * (kBytes + 2 * sizeof(device::Barrier));
};

/// Rows (m or n) of a matrix that lies along k: an operand for this kernel. Any operand has
///   void load(Shared<T> to, int row, int step, Shared<Barrier> full) const
/// which starts to copy 128 bytes of each of its rows from `row` on, swizzled, zeros beyond the edges.
template <class T>
struct MatrixRows {
  device::TensorMap map;

  GRAPNEL_DEVICE void load(device::Shared<T> to, int row, int step,
                           device::Shared<device::Barrier> full) const {
    device::load_tile(to, map, std::array{step * kHopperDepth<T>, row}, full);
  }
};

/// What an operand's elements become: floats stay, and are rounded to TF32 on their way to shared memory.
template <class T>
GRAPNEL_DEVICE T operand_of(float value) {
  if constexpr (std::is_same_v<T, float>)
    return value;
  else
    return {static_cast<std::uint16_t>(rounded<16>(value) >> 16)};
}

/// to (rows, columns), dense, = from, whose rows lie `pitch` apart; `width` elements a thread.
template <class T, int width>
GRAPNEL_KERNEL(kBlockThreads)
copy_operand_kernel(std::int64_t pieces, std::int64_t columns, std::int64_t pitch, device::Global<T> to,
                    device::Global<const float> from) {
  const std::int64_t i = element() * width;
  if (i >= pieces * width) return;
  const auto values = device::load_vector<width>(from, i / columns * pitch + i % columns);
  device::Vector<T, width> result;
  GRAPNEL_UNROLL
  for (int e = 0; e < width; ++e) result[e] = operand_of<T>(values[e]);
  device::store_vector(to, i, result);
}

/// Calls use(operand, pitch) with rows as tensor maps can fetch them: T, at multiples of 16 bytes. Floats
/// that lie so are used where they are; a copy lasts until what `use` launched has ended. columns is a
/// multiple of 16 bytes.
template <class T, class Use>
void with_operand(const char* name, const float* data, std::int64_t rows, std::int64_t columns,
                  std::int64_t pitch, const Use& use) {
  const bool aligned = aligned_for_four({data}) && pitch % 4 == 0;
  if constexpr (std::is_same_v<T, float>)
    if (aligned) return use(data, pitch);
  const device::Workspace copy(static_cast<std::size_t>(rows * columns) * sizeof(T));
  T* to = copy.of<T>();
  if (aligned)
    launch_each(name, rows * columns / 4, copy_operand_kernel<T, 4>, rows * columns / 4, columns, pitch, to,
                data);
  else
    launch_each(name, rows * columns, copy_operand_kernel<T, 1>, rows * columns, columns, pitch, to, data);
  use(static_cast<const T*>(to), columns);
}

/// `rows` rows of `columns` elements, `pitch` apart and aligned as with_operand gives them; `together` of
/// them are fetched at once.
template <class T>
MatrixRows<T> matrix_rows(const T* data, std::int64_t rows, std::int64_t columns, std::int64_t pitch,
                          std::uint32_t together) {
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  return {device::make_tensor_map(
      data,
      device::TensorLayout{
          2, {u(columns), u(rows)}, {sizeof(T), u(pitch) * sizeof(T)}, {kHopperDepth<T>, together}},
      device::Swizzle::bytes128, kHopperRounding<T>)};
}

/// `s.k` counts steps. Sums are delivered one by one, or in fours.
template <class T, int kN, class A, class B, class Output>
GRAPNEL_KERNEL(kHopperThreads, 1)
hopper_product_kernel(ProductSizes s, GRAPNEL_IN_PLACE A a, GRAPNEL_IN_PLACE B b, Output output,
                      bool in_fours, device::Global<float> partial) {
  using namespace device;
  using Stages = HopperStages<kN>;
  constexpr int kRing = Stages::kCount;
  const int across = tiles_for(s.m, kHopperRows), down = tiles_for(s.n, kN);
  const int tile = static_cast<int>(block().x), split = tile / across / down;
  const int first_row = tile % across * kHopperRows, first_column = tile / across % down * kN;
  const auto boundary = [&](int i) { return static_cast<int>(std::int64_t{s.k} * i / s.splits); };
  const int begin = boundary(split), steps = boundary(split + 1) - begin;
  const auto rows_of_a = [&](int stage) {
    return shared_memory<T>(static_cast<unsigned>(stage) * Stages::kBytes);
  };
  const auto rows_of_b = [&](int stage) { return rows_of_a(stage) + kHopperRows * kHopperDepth<T>; };
  const Shared<Barrier> full = shared_memory<Barrier>(kRing * Stages::kBytes), empty = full + kRing;
  const int t = static_cast<int>(thread().x);
  if (t == 0) {
    for (int stage = 0; stage < kRing; ++stage) {
      init_barrier(full + stage, 1);
      init_barrier(empty + stage, 2);
    }
    fence_barrier_init();
  }
  sync_block();

  if (t < 128) {
    give_back_registers<40>();
    if (t < 32 && elect_one()) {
      for (int i = 0; i < steps; ++i) {
        const int stage = i % kRing;
        wait(empty + stage, i / kRing % 2 == 0);
        arrive_expecting(full + stage, Stages::kBytes);
        a.load(rows_of_a(stage), first_row, begin + i, full + stage);
        b.load(rows_of_b(stage), first_column, begin + i, full + stage);
      }
    }
    return;
  }

  ask_for_registers<232>();
  const int half = t / 128 * 64 - 64;  // this warpgroup's first row of the tile
  device::Sums<kN> now;
  float before[kN / 2] = {};
  const auto release = [&](int i) {
    if (t % 128 == 0) arrive(empty + i % kRing);
  };
  for (int first = 0; first < steps; first += kStepsTogether) {
    const int end = first + kStepsTogether < steps ? first + kStepsTogether : steps;
    for (int i = first; i < end; ++i) {
      const int stage = i % kRing;
      wait(full + stage, i / kRing % 2);
      fence_products(now);
      const Matrix of_a = matrix(rows_of_a(stage) + half * kHopperDepth<T>, Swizzle::bytes128, 0, 1024),
                   of_b = matrix(rows_of_b(stage), Swizzle::bytes128, 0, 1024);
      GRAPNEL_UNROLL
      for (int k = 0; k < 4; ++k) multiply_async<T>(now, of_a + 32 * k, of_b + 32 * k, i - first + k > 0);
      commit_products();
      wait_for_products<1>();
      if (i > first) release(i - 1);
    }
    wait_for_products<0>(now);
    release(end - 1);
    GRAPNEL_UNROLL
    for (int e = 0; e < kN / 2; ++e) before[e] += now[e];
  }
  // Through shared memory, so that a warp writes whole rows; with this pitch no two lanes meet in a bank.
  constexpr int kPitch = kN + 8;
  const Shared<float> sums = shared_memory<float>();
  sync_named(1, 256);  // nobody multiplies what lies there
  const int row = half + t % 128 / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
  GRAPNEL_UNROLL
  for (int e = 0; e < kN / 2; e += 2)
    store_vector(sums, (row + e / 2 % 2 * 8) * kPitch + column + e / 4 * 8,
                 Vector<float, 2>{{before[e], before[e + 1]}});
  sync_named(1, 256);
  const auto deliver_all = [&]<int width>() {
    constexpr int kLine = kN / width;
    for (int i = t - 128; i < kHopperRows * kLine; i += 256) {
      const int m = i / kLine, n = i % kLine * width;
      deliver(s, split, first_row + m, first_column + n, load_vector<width>(sums, m * kPitch + n), output,
              partial);
    }
  };
  in_fours ? deliver_all.template operator()<4>() : deliver_all.template operator()<1>();
}

/// Among how many blocks each tile's sum is split, at most `most`: what ends first if 132 multiprocessors
/// make a block each at a time. Counted in steps: a block takes 6 more than it multiplies, 10 if it leaves a
/// part of a sum, and the second kernel 4, and 1 for each 24 parts. Numbers of the model in tools/bench.
inline int splits_for(std::int64_t tiles, int steps, int most) {
  const auto cost = [&](std::int64_t splits) {
    const std::int64_t waves = (tiles * splits + 131) / 132, multiplied = (steps + splits - 1) / splits;
    return splits == 1 ? waves * (multiplied + 6) : waves * (multiplied + 10) + 4 + tiles * splits / 24;
  };
  int best = 1;
  for (int splits = 2; splits <= std::min(most, 128); ++splits)
    if (cost(splits) < cost(best)) best = splits;
  return best;
}

/// Runs one product (s.groups is 1) of T, whose s.k counts steps, in tiles kN wide.
template <class T, int kN, class A, class B, class Output>
void run_hopper_product(const char* name, ProductSizes s, const A& a, const B& b, const Output& output) {
  const std::int64_t tiles = static_cast<std::int64_t>(tiles_for(s.m, kHopperRows)) * tiles_for(s.n, kN);
  constexpr int kFewest = 256 / kHopperDepth<T>;  // no fewer than 256 terms in a block
  s.splits = splits_for(tiles, s.k, s.k / kFewest);
  run_split(name, s, output, [&](float* partial) {
    device::launch(name, {static_cast<unsigned>(tiles * s.splits)}, {kHopperThreads},
                   HopperStages<kN>::kAllBytes, hopper_product_kernel<T, kN, A, B, Output>, s, a, b, output,
                   s.n % 4 == 0 && output.in_fours(), partial);
  });
}

}  // namespace grapnel::kernels
