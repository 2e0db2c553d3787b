// The model computes what a GPU would, counts its traffic, and finds each kind of fault that is planted here.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "cuda_host/array.h"
#include "cuda_host/faults.h"
#include "cuda_host/numbers.h"
#include "cuda_host/sample_kernels.cuh"

using namespace grapnel;
using namespace grapnel::samples;
using cuda_host::Array, cuda_host::check_has, cuda_host::fault_of, cuda_host::numbers;

TEST_CASE("one thread an element, with a tail") {
  const Array<float> a(numbers(1000, 1)), b(numbers(1000, 2)), y(1000);
  launch("add", {4}, {256}, 0, add, y.data(), a.data(), b.data(), 1000);
  for (std::size_t i = 0; i < 1000; ++i) CHECK(y[i] == a[i] + b[i]);
}

TEST_CASE("shuffles, shared memory and a barrier make a sum") {
  const std::vector<float> x = numbers(777);
  double want = 0;
  for (const float value : x) want += value;
  const Array<float> in(x), out(1);
  launch("sum", {1}, {256}, 32, sum, out.data(), in.data(), 777, 1, false);
  CHECK(out[0] == doctest::Approx(want));
}

TEST_CASE("transposing in tiles, any size") {
  for (const auto& [rows, columns] : {std::pair(64, 32), std::pair(33, 70), std::pair(1, 1)}) {
    CAPTURE(rows);
    const auto count = static_cast<std::size_t>(rows * columns);
    const Array<float> x(numbers(count)), y(count);
    const cuda_host::Dim grid{static_cast<unsigned>(columns + 31) / 32,
                              static_cast<unsigned>(rows + 31) / 32};
    launch("transpose", grid, {256}, 33 * 32 * 4, transpose, y.data(), x.data(), rows, columns, 33);
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j)
        CHECK(y[static_cast<std::size_t>(i * columns + j)] == x[static_cast<std::size_t>(j * rows + i)]);
  }
}

TEST_CASE("tensor cores, TF32, fed by asynchronous copies") {
  for (const int depth : {8, 40, 44}) {
    CAPTURE(depth);
    const auto d = static_cast<std::size_t>(depth);
    const Array<float> a(numbers(16 * d, 1)), b(numbers(8 * d, 2)), c(16 * 8);
    launch("product_tf32", {1}, {32}, 2 * 24 * 8 * 4, product_tf32<1>, c.data(), a.data(), b.data(), depth);
    for (std::size_t i = 0; i < 16; ++i)
      for (std::size_t j = 0; j < 8; ++j) {
        double want = 0;
        for (std::size_t k = 0; k < d; ++k) want += double{a[i * d + k]} * b[j * d + k];
        CHECK(c[i * 8 + j] == doctest::Approx(want));
      }
  }
}

TEST_CASE("tensor cores see the ten upper bits of a fraction in TF32") {
  std::vector<float> one(16 * 8, 0), fine(8 * 8, 0);
  one[0] = 1;
  fine[0] = 1 + std::ldexp(1.0f, -10) + std::ldexp(1.0f, -11);
  const Array<float> a(one), b(fine), c(16 * 8);
  launch("product_tf32", {1}, {32}, 2 * 24 * 8 * 4, product_tf32<1>, c.data(), a.data(), b.data(), 8);
  CHECK(c[0] == 1 + std::ldexp(1.0f, -10));
}

TEST_CASE("tensor cores, bfloat16, through matrix loads") {
  const auto bits = [](const std::vector<float>& x) {
    std::vector<BFloat16> result;
    for (const float value : x) {
      std::uint32_t whole;
      std::memcpy(&whole, &value, sizeof whole);
      REQUIRE((whole & 0xffff) == 0);
      result.push_back({static_cast<std::uint16_t>(whole >> 16)});
    }
    return result;
  };
  const std::vector<float> x = numbers(16 * 16, 1), w = numbers(16 * 8, 2);
  const Array<BFloat16> a(bits(x)), b(bits(w));
  const Array<float> c(16 * 8);
  launch("product_bf16", {1}, {32}, (16 * 16 + 16 * 8) * 2, product_bf16, c.data(), a.data(), b.data());
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t j = 0; j < 8; ++j) {
      double want = 0;
      for (std::size_t k = 0; k < 16; ++k) want += double{x[i * 16 + k]} * w[k * 8 + j];
      CHECK(c[i * 8 + j] == doctest::Approx(want));
    }
}

TEST_CASE("votes and atomics") {
  std::vector<int> x(64);
  for (int i = 0; i < 64; ++i) x[static_cast<std::size_t>(i)] = i % 3;
  const Array<int> in(x);
  const Array<std::uint32_t> lanes(2);
  const Array<unsigned> total(std::vector<unsigned>{0});
  launch("count_odd", {1}, {64}, 0, count_odd, lanes.data(), total.data(), in.data());
  CHECK(total[0] == 21);
  for (std::size_t i = 0; i < 64; ++i) CHECK((lanes[i / 32] >> i % 32 & 1) == (x[i] == 1));
}

TEST_CASE("warps that meet at a barrier of their own") {
  const Array<float> y(32);
  launch("hand_over", {1}, {96}, 128, hand_over, y.data(), 1u);
  for (std::size_t i = 0; i < 32; ++i) CHECK(y[i] == 31 - static_cast<float>(i));
}

TEST_CASE("traffic is counted as the hardware makes it") {
  const cuda_host::CountTraffic counting;
  const Array<float> x(numbers(32 * 32 * 32)), y(32 * 32);
  const auto traffic_of_sum = [&](int stride) {
    return launch("sum", {1}, {256}, 32, sum, y.data(), x.data(), 1024, stride, false);
  };
  // 32 neighbours are 4 sectors, 32 that lie 128 bytes apart are 32; one store of the result.
  CHECK(traffic_of_sum(1).global_requests == 33);
  CHECK(traffic_of_sum(1).global_sectors == 32 * 4 + 1);
  CHECK(traffic_of_sum(32).global_sectors == 32 * 32 + 1);

  // Columns of a tile whose rows lie 32 floats apart share one bank; 33 apart, none.
  const auto traffic_of_tile = [&](int pitch) {
    return launch("transpose", {1}, {256}, 33 * 32 * 4, transpose, y.data(), x.data(), 32, 32, pitch);
  };
  CHECK(traffic_of_tile(33).shared_requests == 64);
  CHECK(traffic_of_tile(33).shared_passes == 64);
  CHECK(traffic_of_tile(32).shared_passes == 32 + 32 * 32);
}

// --- planted faults ---

namespace {

GRAPNEL_KERNEL(1024) write_one(Global<float> y, int spread) {
  after_previous();
  store(y, static_cast<int>(thread().x) * spread, 1);
}

GRAPNEL_KERNEL(64) read_other(Global<float> y) {
  after_previous();
  store(y, thread().x, 1);
  store(y, thread().x + 64, load(y, 63 - thread().x));
}

GRAPNEL_KERNEL(64) write_after_read(Global<float> y, Global<const float> x) {
  after_previous();
  const Shared<float> tile = shared_memory<float>();
  store(tile, thread().x, load(x, thread().x));
  sync_block();
  store(y, thread().x, load(tile, 63 - thread().x));
  store(tile, thread().x, 0);  // others may still read
}

GRAPNEL_KERNEL(64) two_barriers(int) {
  after_previous();
  if (thread().x < 32)
    sync_block();
  else
    sync_block();
}

GRAPNEL_KERNEL(64) some_wait(int) {
  after_previous();
  if (thread().x < 40) sync_block();
}

GRAPNEL_KERNEL(32) lanes_diverge(Global<float> y, int kind) {
  after_previous();
  const std::uint32_t mask = kind == 0 ? 0xffffffffu : 0xffffu;
  if (kind == 2)
    store(y, lane(), shuffle(mask, 1.0f, lane()));  // the upper half names a mask without itself
  else if (lane() < 16)
    store(y, lane(), shuffle(mask, 1.0f, kind == 1 ? 20 : 0));
}

GRAPNEL_KERNEL(32) copy_without_waiting(Global<float> y, Global<const float> x, int kind) {
  after_previous();
  const Shared<float> tile = shared_memory<float>();
  if (lane() == 0) {
    copy_async<4>(tile, x);
    commit_copies();
    if (kind == 1) wait_for_copies<0>();
  }
  if (kind == 0) sync_warp(0xffffffffu);
  store(y, lane(), load(tile, lane() % 4));
}

GRAPNEL_KERNEL(32) copy_and_end(Global<const float> x) {
  after_previous();
  copy_async<1>(shared_memory<float>() + lane(), x + lane());
}

/// What comes before the wait for the launch before.
GRAPNEL_KERNEL(32) too_early(Global<float> y, Global<const float> x, Global<int> count, int kind) {
  const Shared<float> tile = shared_memory<float>();
  store(tile, lane(), 1);
  if (kind == 1) load(x, lane());
  if (kind == 2) store(y, lane(), 1);
  if (kind == 3) atomic_add(count, 0, 1);
  if (kind == 4) copy_async<1>(tile + lane(), x + lane());
  if (kind == 5) launch_next();
  if (kind == 6 && lane() == 7) return;
  if (kind != 7 || lane() == 0) wait_for_previous();
  sync_warp(0xffffffffu);
  if (kind == 7) load(x, lane());
  store(y, lane(), load(x, lane()) + load(tile, lane()));
  launch_next();
}

GRAPNEL_KERNEL(32) wide(Global<const float> x, int offset) {
  after_previous();
  load_vector<4>(x, offset);
}

}  // namespace

TEST_CASE("faults: out of bounds, in global and in shared memory") {
  const Array<float> y(100);
  const std::string global = fault_of([&] { launch("write_one", {1}, {101}, 0, write_one, y.data(), 1); });
  check_has(global, "write_one, block 0, thread 100, model_test.cpp:");
  check_has(global, "write to global memory, 4 bytes: out of bounds");
  const Array<float> x(numbers(256));
  check_has(fault_of([&] { launch("sum", {1}, {256}, 28, sum, y.data(), x.data(), 256, 1, false); }),
            "write to shared memory, 4 bytes: out of bounds");
  check_has(fault_of([&] { launch("sum", {1}, {256}, 32, sum, y.data(), x.data(), 257, 1, false); }),
            "read of global memory, 4 bytes: out of bounds");
}

TEST_CASE("faults: misaligned") {
  const Array<float> x(numbers(64));
  CHECK(fault_of([&] { launch("wide", {1}, {32}, 0, wide, x.data(), 4); }) == "none");
  check_has(fault_of([&] { launch("wide", {1}, {32}, 0, wide, x.data(), 2); }), "not aligned to 16");
}

TEST_CASE("faults: reads of what was never written") {
  const Array<float> unset(1000), b(numbers(1000)), y(1000);
  check_has(fault_of([&] { launch("add", {4}, {256}, 0, add, y.data(), unset.data(), b.data(), 1000); }),
            "read of global memory, 4 bytes: reads what was never written");
  check_has(fault_of([&] { launch("sum", {1}, {256}, 32, sum, y.data(), b.data(), 256, 1, true); }),
            "reads what was never written");
}

TEST_CASE("faults: races within a block, and between blocks") {
  const Array<float> y(numbers(128)), x(numbers(64));
  check_has(fault_of([&] { launch("write_one", {1}, {2}, 0, write_one, y.data(), 0); }),
            "thread 1, model_test.cpp:");
  check_has(fault_of([&] { launch("write_one", {1}, {2}, 0, write_one, y.data(), 0); }),
            "races with a write by thread 0");
  check_has(fault_of([&] { launch("write_one", {2}, {1}, 0, write_one, y.data(), 0); }),
            "races with a write by thread 0 of block 0");
  CHECK(fault_of([&] {
          launch("write_one", {1}, {1}, 0, write_one, y.data(), 0);
          launch("write_one", {1}, {1}, 0, write_one, y.data(), 0);
        }) == "none");
  // Found although the model lets threads run one after the other.
  check_has(fault_of([&] { launch("read_other", {1}, {64}, 0, read_other, y.data()); }),
            "races with a read by thread 31");
  check_has(
      fault_of([&] { launch("write_after_read", {1}, {64}, 256, write_after_read, y.data(), x.data()); }),
      "races with a write by thread 31");
}

TEST_CASE("faults: barriers that diverge, or wait for a thread that has ended") {
  check_has(fault_of([] { launch("two_barriers", {1}, {64}, 0, two_barriers, 0); }), "the barrier diverges");
  check_has(fault_of([] { launch("some_wait", {1}, {64}, 0, some_wait, 0); }), ", which has ended");
  const Array<float> y(32);
  check_has(fault_of([&] { launch("hand_over", {1}, {96}, 128, hand_over, y.data(), 2u); }),
            "nobody can go on");
  check_has(fault_of([&] { launch("hand_over", {1}, {96}, 128, hand_over, y.data(), 16u); }),
            "barrier 16, expected 1 to 15");
}

TEST_CASE("faults: lanes that are named and do not come, come and are not named, or are read from outside") {
  const Array<float> y(32);
  const auto kind = [&](int k) {
    return fault_of([&] { launch("lanes_diverge", {1}, {32}, 0, lanes_diverge, y.data(), k); });
  };
  check_has(kind(0), "waits for lane 16, which has ended or never was");
  check_has(kind(1), "reads lane 20, which takes no part");
  check_has(kind(2), "takes no part");
}

TEST_CASE("faults: asynchronous copies that nobody, or only one, has waited for") {
  const Array<float> y(32), x(numbers(32));
  const auto kind = [&](int k) {
    return fault_of(
        [&] { launch("copy_without_waiting", {1}, {32}, 16, copy_without_waiting, y.data(), x.data(), k); });
  };
  check_has(kind(0), "a copy that its thread has not waited for is still to write there");
  check_has(kind(1), "races with a write by thread 0");  // it has waited, the others not for it
  check_has(fault_of([&] { launch("copy_and_end", {1}, {32}, 128, copy_and_end, x.data()); }),
            "the thread ends before this copy of its");
  // One step ahead, where two are under way: the first must have landed.
  const Array<float> a(numbers(16 * 32)), b(numbers(8 * 32)), c(128);
  check_has(fault_of([&] {
              launch("product_tf32", {1}, {32}, 2 * 24 * 8 * 4, product_tf32<2>, c.data(), a.data(), b.data(),
                     32);
            }),
            "is still to write there");
}

TEST_CASE("faults: what happens before the launch before has ended") {
  const Array<float> y(32), x(numbers(32));
  const Array<int> count(std::vector<int>{0});
  const auto kind = [&](int k) {
    return fault_of(
        [&] { launch("too_early", {1}, {32}, 128, too_early, y.data(), x.data(), count.data(), k); });
  };
  check_has(kind(0), "none");
  check_has(kind(1), "read of global memory, 4 bytes: without wait_for_previous");
  check_has(kind(2), "write to global memory, 4 bytes: without wait_for_previous");
  check_has(kind(3), "atomic on global memory, 4 bytes: without wait_for_previous");
  check_has(kind(4), "read of global memory, 4 bytes: without wait_for_previous");
  check_has(kind(5), "launch_next without wait_for_previous");
  check_has(kind(6), "block 0, thread 7, ");
  check_has(kind(6), "the thread ends without wait_for_previous");
  check_has(kind(7), "thread 1, model_test.cpp:");  // the first one's wait is no other's
}

TEST_CASE("faults: launches that no GPU takes") {
  const Array<float> y(1);
  check_has(fault_of([&] { launch("write_one", {1}, {1025}, 0, write_one, y.data(), 0); }),
            "write_one: a block of 1025 threads, expected 1 to 1024");
  check_has(fault_of([&] { launch("write_one", {0}, {1}, 0, write_one, y.data(), 0); }),
            "a grid of no blocks");
  check_has(fault_of([&] { launch("write_one", {1}, {1}, 1 << 20, write_one, y.data(), 0); }),
            "of shared memory, expected at most 232448");
}
