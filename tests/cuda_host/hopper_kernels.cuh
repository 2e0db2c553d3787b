// Small kernels that use all of kernels/common/hopper.cuh, for the tests of the model; nvcc must compile
// them, too.
#pragma once

#include "grapnel/kernels/common/hopper.cuh"

namespace grapnel::samples {

using namespace grapnel::device;

/// What to do wrong.
enum class Mistake { none, no_proxy_fence, early_release };

/// Bytes of shared memory that product_of_tiles takes.
template <int columns, int stages>
constexpr std::size_t product_of_tiles_bytes = stages*(128 + columns) * 128 + 2 * stages * sizeof(Barrier);

/// d (rows, width) = a (rows, depth) b (width, depth)^T in tiles of 128 by `columns`, 128 bytes of k a stage.
/// One warpgroup fetches; two multiply 64 rows each.
template <class T, int columns, int stages, Mistake mistake = Mistake::none>
GRAPNEL_KERNEL(384)
product_of_tiles(GRAPNEL_IN_PLACE TensorMap a, GRAPNEL_IN_PLACE TensorMap b, Global<float> d, int rows,
                 int width, int depth) {
  after_previous();
  constexpr int kRows = 128, kStep = 128 / sizeof(T), kStage = (kRows + columns) * 128;
  const int top = static_cast<int>(block().y) * kRows, left = static_cast<int>(block().x) * columns;
  const int steps = (depth + kStep - 1) / kStep, t = static_cast<int>(thread().x);
  const auto rows_of_a = [&](int stage) {
    return shared_memory<T>(static_cast<std::size_t>(stage) * kStage);
  };
  const auto rows_of_b = [&](int stage) { return rows_of_a(stage) + kRows * kStep; };
  const Shared<Barrier> full = shared_memory<Barrier>(stages * kStage), empty = full + stages;
  if (t == 0) {
    for (int s = 0; s < stages; ++s) {
      init_barrier(full + s, 1);
      init_barrier(empty + s, 2);
    }
    fence_barrier_init();
  }
  sync_block();

  if (t < 128) {
    give_back_registers<40>();
    if (t < 32 && elect_one()) {
      for (int step = 0; step < steps; ++step) {
        const int s = step % stages;
        wait(empty + s, step / stages % 2 == 0);
        arrive_expecting(full + s, kStage);
        load_tile(rows_of_a(s), a, std::array{step * kStep, top}, full + s);
        load_tile(rows_of_b(s), b, std::array{step * kStep, left}, full + s);
      }
    }
    return;
  }

  ask_for_registers<232>();
  const int first = t / 128 * 64 - 64;  // row of the tile
  const auto release = [&](int step) {
    if (t % 128 == 0) arrive(empty + step % stages);
  };
  Sums<columns> sums;
  for (int step = 0; step < steps; ++step) {
    const int s = step % stages;
    wait(full + s, step / stages % 2);
    fence_products(sums);
    const Matrix of_a = matrix(rows_of_a(s) + first * kStep, Swizzle::bytes128, 0, 1024),
                 of_b = matrix(rows_of_b(s), Swizzle::bytes128, 0, 1024);
    for (int k = 0; k < 4; ++k) multiply_async<T>(sums, of_a + 32 * k, of_b + 32 * k, step + k > 0);
    commit_products();
    if (mistake == Mistake::early_release) {
      release(step);
      continue;
    }
    wait_for_products<1>();
    if (step > 0) release(step - 1);
  }
  wait_for_products<0>(sums);
  const int row = top + first + t % 128 / 32 * 16 + t % 32 / 4, column = left + t % 4 * 2;
  GRAPNEL_UNROLL
  for (int i = 0; i < columns / 2; ++i) {
    const int r = row + i / 2 % 2 * 8, c = column + i / 4 * 8 + i % 2;
    if (r < rows && c < width) store(d, std::int64_t{r} * width + c, sums[i]);
  }
}

/// y = the box at `at` as it lies in shared memory, `count` elements.
template <class T, std::size_t rank>
GRAPNEL_KERNEL(128)
fetch(GRAPNEL_IN_PLACE TensorMap x, std::array<int, rank> at, Global<T> y, int count) {
  after_previous();
  const Shared<T> tile = shared_memory<T>();
  const Shared<Barrier> barrier = shared_memory<Barrier>(static_cast<std::size_t>(count) * sizeof(T));
  if (thread().x == 0) {
    init_barrier(barrier, 1);
    fence_barrier_init();
    arrive_expecting(barrier, static_cast<unsigned>(count * sizeof(T)));
    load_tile(tile, x, at, barrier);
  }
  sync_block();
  while (!try_wait(barrier, 0)) {
  }
  for (int i = static_cast<int>(thread().x); i < count; i += 128) store(y, i, load(tile, i));
}

/// y = a column of `pixels` of x, each of `channels`, as it lies in shared memory.
GRAPNEL_KERNEL(128)
fetch_pixels(GRAPNEL_IN_PLACE TensorMap x, std::array<int, 4> at, std::array<int, 2> offset, Global<float> y,
             int channels, int pixels) {
  after_previous();
  const int count = channels * pixels;
  const Shared<float> tile = shared_memory<float>();
  const Shared<Barrier> barrier = shared_memory<Barrier>(static_cast<std::size_t>(count) * sizeof(float));
  if (thread().x == 0) {
    init_barrier(barrier, 1);
    fence_barrier_init();
    arrive_expecting(barrier, static_cast<unsigned>(count * sizeof(float)));
    load_pixels(tile, x, at, offset, barrier);
  }
  sync_block();
  wait(barrier, 0);
  for (int i = static_cast<int>(thread().x); i < count; i += 128) store(y, i, load(tile, i));
}

/// y = x + 1, a tensor of floats and a box of `count` of them, there and back by tensor maps.
template <Mistake mistake = Mistake::none>
GRAPNEL_KERNEL(128)
add_one(GRAPNEL_IN_PLACE TensorMap x, GRAPNEL_IN_PLACE TensorMap y, int width, int height, int count) {
  after_previous();
  const Shared<float> tile = shared_memory<float>();
  const Shared<Barrier> barrier = shared_memory<Barrier>(static_cast<std::size_t>(count) * sizeof(float));
  const std::array at{static_cast<int>(block().x) * width, static_cast<int>(block().y) * height};
  if (thread().x == 0) {
    init_barrier(barrier, 1);
    fence_barrier_init();
    arrive_expecting(barrier, static_cast<unsigned>(count * sizeof(float)));
    load_tile(tile, x, at, barrier);
  }
  sync_block();
  wait(barrier, 0);
  for (int i = static_cast<int>(thread().x); i < count; i += 128) store(tile, i, load(tile, i) + 1);
  if (mistake != Mistake::no_proxy_fence) fence_proxy_async();
  sync_block();
  if (thread().x == 0) {
    store_tile(y, at, tile);
    commit_stores();
    wait_for_stores<0>();
  }
}

/// How an operand of `lines` lines and 32 bytes of k is fetched, box by box, and described to a product.
struct OperandLayout {
  Swizzle swizzle;
  int boxes, box_elements;  // how many, and how many elements of shared memory each
  int step_k, step_line;    // from box to box
  unsigned leading, stride;
};

/// d (64, columns) = a b^T of one product, in any layout; A through registers if so asked.
template <class T, Major major_a, Major major_b, bool a_in_registers, int columns>
GRAPNEL_KERNEL(128)
product_once(GRAPNEL_IN_PLACE TensorMap a, GRAPNEL_IN_PLACE TensorMap b, Global<float> d,
             Global<const T> rows_of_a, OperandLayout of_a, OperandLayout of_b) {
  after_previous();
  constexpr int kDepth = 32 / sizeof(T);
  const Shared<T> left = shared_memory<T>(), right = shared_memory<T>(16 * 1024);
  const Shared<Barrier> barrier = shared_memory<Barrier>(80 * 1024);
  const int t = static_cast<int>(thread().x);
  if (t == 0) {
    init_barrier(barrier, 1);
    fence_barrier_init();
    arrive_expecting(
        barrier,
        static_cast<unsigned>((of_a.boxes * of_a.box_elements + of_b.boxes * of_b.box_elements) * sizeof(T)));
    for (int i = 0; i < of_a.boxes; ++i)
      load_tile(left + i * of_a.box_elements, a,
                major_a == Major::k ? std::array{i * of_a.step_k, 0} : std::array{i * of_a.step_line, 0},
                barrier);
    for (int i = 0; i < of_b.boxes; ++i)
      load_tile(right + i * of_b.box_elements, b,
                major_b == Major::k ? std::array{i * of_b.step_k, 0} : std::array{i * of_b.step_line, 0},
                barrier);
  }
  sync_block();
  wait(barrier, 0);
  Sums<columns> sums;
  const int row = t / 32 * 16 + t % 32 / 4;
  const Matrix matrix_b = matrix(right, of_b.swizzle, of_b.leading, of_b.stride);
  if constexpr (a_in_registers) {
    std::array<std::uint32_t, 4> registers;
    GRAPNEL_UNROLL
    for (int i = 0; i < 4; ++i) {
      constexpr int kPer = 4 / sizeof(T);
      T values[kPer];
      for (int e = 0; e < kPer; ++e)
        values[e] = load(rows_of_a, (row + i % 2 * 8) * kDepth + (t % 4 + i / 2 * 4) * kPer + e);
      memcpy(&registers[static_cast<unsigned>(i)], values, 4);
    }
    fence_products(sums, registers);
    multiply_async<T, major_b>(sums, registers, matrix_b, false);
  } else {
    fence_products(sums);
    multiply_async<T, major_a, major_b>(sums, matrix(left, of_a.swizzle, of_a.leading, of_a.stride), matrix_b,
                                        false);
  }
  commit_products();
  wait_for_products<0>(sums);
  GRAPNEL_UNROLL
  for (int i = 0; i < columns / 2; ++i)
    store(d, (row + i / 2 % 2 * 8) * columns + i / 4 * 8 + t % 4 * 2 + i % 2, sums[i]);
}

}  // namespace grapnel::samples
