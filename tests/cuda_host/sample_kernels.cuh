// Small kernels that use all of kernels/common/device.cuh, for the tests of the model; nvcc must compile
// them, too.
#pragma once

#include "grapnel/kernels/common/device.cuh"

namespace grapnel::samples {

using namespace grapnel::device;

GRAPNEL_KERNEL(256) add(Global<float> y, Global<const float> a, Global<const float> b, int count) {
  after_previous();
  const int i = static_cast<int>(block().x * block_size().x + thread().x);
  if (i < count) store(y, i, load(a, i) + load(b, i));
}

/// One sum a block of 256 threads, through shuffles and shared memory; `forget` leaves out the barrier.
GRAPNEL_KERNEL(256) sum(Global<float> y, Global<const float> x, int count, int stride, bool forget) {
  after_previous();
  const Shared<float> parts = shared_memory<float>();
  const unsigned t = thread().x;
  float mine = 0;
  for (int i = static_cast<int>(t); i < count; i += 256) mine += load(x, i * stride);
  for (unsigned distance = 16; distance > 0; distance /= 2) mine += shuffle_xor(0xffffffffu, mine, distance);
  if (lane() == 0) store(parts, t / 32, mine);
  if (!forget) sync_block();
  if (t != 0) return;
  float all = 0;
  for (int w = 0; w < 8; ++w) all += load(parts, w);
  store(y, block().x, all);
}

/// y (rows, columns) = x (columns, rows) transposed, in tiles of 32 x 32 whose rows lie `pitch` apart.
GRAPNEL_KERNEL(256) transpose(Global<float> y, Global<const float> x, int rows, int columns, int pitch) {
  after_previous();
  const Shared<float> tile = shared_memory<float>();
  const int t = static_cast<int>(thread().x), left = static_cast<int>(block().x) * 32,
            top = static_cast<int>(block().y) * 32;
  for (int i = t / 32; i < 32; i += 8)
    if (left + i < columns && top + t % 32 < rows)
      store(tile, i * pitch + t % 32, load(x, std::int64_t{left + i} * rows + top + t % 32));
  sync_block();
  for (int i = t / 32; i < 32; i += 8)
    if (top + i < rows && left + t % 32 < columns)
      store(y, std::int64_t{top + i} * columns + left + t % 32, load(tile, t % 32 * pitch + i));
}

/// c (16, 8) = a (16, depth) b (8, depth)^T of one warp, eight k at a time by asynchronous copies one step
/// ahead. `groups_left` is 1 if every step is to wait for its own copies.
template <int groups_left>
GRAPNEL_KERNEL(32)
product_tf32(Global<float> c, Global<const float> a, Global<const float> b, int depth) {
  after_previous();
  constexpr int kStep = 8, kRows = 24;  // of a, then of b
  const unsigned l = lane(), g = l / 4, t = l % 4;
  const auto stage = [&](int k) { return shared_memory<float>() + k / kStep % 2 * kRows * kStep; };
  const auto start = [&](int k) {
    for (unsigned i = l; i < kRows * 2 && k < depth; i += 32) {
      const unsigned row = i / 2, half = i % 2 * 4;
      const bool inside = k + static_cast<int>(half) < depth;
      const Global<const float> line =
          row < 16 ? a + std::int64_t{row} * depth : b + std::int64_t{row - 16} * depth;
      copy_async<4>(stage(k) + (row * kStep + half), line + (inside ? k + static_cast<int>(half) : 0),
                    !inside);
    }
    commit_copies();
  };
  const auto bits = [&](Shared<float> from, unsigned row, unsigned k) {
    const float value = load(from, row * kStep + k);
    std::uint32_t result;
    memcpy(&result, &value, sizeof result);
    return result;
  };
  std::array<float, 4> sums = {0, 0, 0, 0};
  start(0);
  for (int k = 0; k < depth; k += kStep) {
    start(k + kStep);
    wait_for_copies<groups_left>();
    sync_warp(0xffffffffu);
    const Shared<float> from = stage(k);
    sums = multiply_tf32(
        {bits(from, g, t), bits(from, g + 8, t), bits(from, g, t + 4), bits(from, g + 8, t + 4)},
        {bits(from, 16 + g, t), bits(from, 16 + g, t + 4)}, sums);
    sync_warp(0xffffffffu);
  }
  wait_for_copies<0>();
  for (int i = 0; i < 4; ++i) store(c, (g + i / 2 * 8) * 8 + 2 * t + i % 2, sums[i]);
}

/// c (16, 8) = a (16, 16) b (16, 8), all bfloat16 but c, through the matrix loads.
GRAPNEL_KERNEL(32) product_bf16(Global<float> c, Global<const BFloat16> a, Global<const BFloat16> b) {
  after_previous();
  const unsigned l = lane();
  const Shared<BFloat16> rows_a = shared_memory<BFloat16>(), rows_b = rows_a + 16 * 16;
  for (unsigned i = l; i < 32; i += 32) {
    copy_async<8>(rows_a + i * 8, a + i * 8);
    if (i < 16) copy_async<8>(rows_b + i * 8, b + i * 8);
  }
  commit_copies();
  wait_for_copies<0>();
  sync_warp(0xffffffffu);
  // Matrices: rows 0-7 and 8-15 at k 0-7, then both at k 8-15; of b, k 0-7 and 8-15, twice.
  const auto left = load_matrices<false>(rows_a + (l % 16 * 16 + l / 16 * 8));
  const auto right = load_matrices<true>(rows_b + l % 16 * 8);
  const auto sums = multiply_bf16(left, {right[0], right[1]}, {0, 0, 0, 0});
  for (int i = 0; i < 4; ++i) store(c, (l / 4 + i / 2 * 8) * 8 + l % 4 * 2 + i % 2, sums[i]);
}

/// Which lanes see an odd number; and how many there are in all, counted by atomics.
GRAPNEL_KERNEL(64) count_odd(Global<std::uint32_t> lanes, Global<unsigned> total, Global<const int> x) {
  after_previous();
  const unsigned t = thread().x;
  const std::uint32_t odd = ballot(0xffffffffu, load(x, t) % 2 != 0);
  if (lane() == 0) store(lanes, t / 32, odd);
  if (load(x, t) % 2 != 0) atomic_add(total, 0, 1u);
}

/// The first warp makes, the second takes, and they meet at a barrier of their own.
GRAPNEL_KERNEL(96) hand_over(Global<float> y, unsigned taker_waits_at) {
  after_previous();
  const Shared<float> between = shared_memory<float>();
  if (thread().x < 32) {
    store(between, lane(), static_cast<float>(lane()));
    sync_named(1, 64);
  } else if (thread().x < 64) {
    sync_named(taker_waits_at, 64);
    store(y, lane(), load(between, 31 - lane()));
  }
}

}  // namespace grapnel::samples
