// Each kind of fault that the model of Hopper finds, planted.
#include <doctest/doctest.h>

#include <functional>

#include "cuda_host/array.h"
#include "cuda_host/faults.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/hopper.cuh"

using namespace grapnel;
using namespace grapnel::device;
using cuda_host::Array, cuda_host::check_has, cuda_host::fault_of, cuda_host::numbers;

namespace {

/// Two rows of 32 floats, a row at once.
TensorMap rows_of(const Array<float>& x) {
  return make_tensor_map<float>(x.data(), {2, {32, 2}, {4, 128}, {32, 1}}, Swizzle::none);
}

/// Threads 0 and 32 use a barrier at byte 0 and a word at byte 64.
GRAPNEL_KERNEL(64) barrier_faults(Global<float> y, int kind) {
  after_previous();
  const Shared<Barrier> barrier = shared_memory<Barrier>();
  const Shared<float> word = shared_memory<float>(64);
  const bool first = thread().x == 0, second = thread().x == 32;
  if (kind == 0 && first) arrive(barrier);
  if (first) init_barrier(barrier, kind == 4 ? 2 : 1);
  if (kind == 1 && first) init_barrier(barrier, 1);
  if (kind == 2 && second) arrive(barrier);
  sync_block();
  if (kind == 3 && first) {
    arrive_expecting(barrier, 16);
    arrive(barrier);
  }
  if (kind == 4 && first) {
    arrive(barrier);
    wait(barrier, 0);
  }
  if (kind == 5 && first) {
    arrive_expecting(barrier, 16);
    wait(barrier, 0);
  }
  if (kind == 6 && first) {
    for (int i = 0; i < 3; ++i) arrive(barrier);
    wait(barrier, 0);
  }
  if (kind == 7 || kind == 13) {
    const bool arrives = kind == 7 ? first : second, waits = kind == 7 ? second : first;
    if (arrives) arrive(barrier);
    sync_block();
    if (arrives) arrive(barrier);  // and who knows whether the other has seen the first
    if (waits) wait(barrier, 0);
  }
  if (kind == 8 && first) store(shared_memory<float>(4), 0, 1.0f);
  if (kind == 9 && first) {
    store(word, 0, 1.0f);
    arrive(barrier);
  }
  if (kind == 9 && second) store(y, 0, load(word));  // has not waited
  if (kind == 10 && first) {
    store(word, 0, 1.0f);
    arrive(barrier);
  }
  if (kind == 10 && second) {
    wait(barrier, 0);
    store(y, 0, load(word));
  }
  if (kind == 11 && first)
    while (!try_wait(barrier, 0)) {
    }
  if (kind == 12 && second) {
    wait(barrier, 1);  // before the first phase: at once
    arrive(barrier);
    wait(barrier, 0);
    wait(barrier, 1);  // never
  }
}

/// One load of 32 floats by thread 0, and what can go wrong with it.
GRAPNEL_KERNEL(64) load_faults(GRAPNEL_IN_PLACE TensorMap x, Global<float> y, int kind) {
  if (kind != 11) after_previous();
  const Shared<float> tile = shared_memory<float>(kind == 6 ? 64 : 0);
  const Shared<Barrier> barrier = shared_memory<Barrier>(kind == 5 ? 128 : 2048);
  const unsigned t = thread().x;
  if (kind == 7 && t == 32) store(tile, 0, 1.0f);
  if (t == 0) {
    init_barrier(barrier, 1);
    if (kind != 0) fence_barrier_init();
    if (kind == 8) store(tile, 0, 1.0f);
    if (kind != 3) arrive_expecting(barrier, kind == 2 ? 64 : 128);
    load_tile(tile, x, std::array{0, 0}, barrier);
    if (kind == 3) arrive(barrier);
    if (kind == 9) load_tile(tile, x, std::array{0, 0}, barrier);
  }
  sync_block();
  if (kind == 1 || kind == 4) {
    if (kind == 4 || t != 0) wait(barrier, 0);
    store(y, t, load(tile, t % 32));
  } else if (kind != 10) {
    wait(barrier, 0);
  }
}

/// One product of operands that threads store themselves, unswizzled: A at byte 0, B of 8 columns at 4096.
GRAPNEL_KERNEL(256) product_faults(Global<float> y, int kind) {
  after_previous();
  const Shared<float> a = shared_memory<float>(), b = shared_memory<float>(4096);
  const int t = static_cast<int>(thread().x);
  for (int i = t; i < 64 * 8; i += 256) store(a, i, 1.0f);
  if (t < 64 && !(kind == 3 && t == 5)) store(b, t, 2.0f);
  if (kind != 0) fence_proxy_async();
  if (kind == 2 && t == 6) store(b, 6, 2.0f);  // after its fence
  if (kind != 1) sync_block();
  if (t >= 128 && kind != 4) return;
  Sums<8> sums;
  if (kind != 5) fence_products(sums);
  const Matrix of_a = matrix(a, Swizzle::none, 1024, 128),
               of_b = matrix(b, Swizzle::none, 128, kind == 6 && t >= 64 ? 256 : 128);
  if (kind == 7 && t >= 96) return;
  multiply_async<float>(sums, of_a, kind == 14 ? matrix(b + 64, Swizzle::bytes128, 0, 1024) : of_b,
                        kind == 8);
  if (kind == 9) sums[0] += 1;
  commit_products();
  if (kind == 10) store(a, t, 3.0f);
  if (kind == 11) return;
  if (kind == 16)
    wait_for_products<0>();
  else
    wait_for_products<0>(sums);
  if (kind == 12) {
    sums[0] += 1;
    multiply_async<float>(sums, of_a, of_b, true);
    commit_products();
    wait_for_products<0>(sums);
  }
  if (kind == 13) {
    multiply_async<float>(sums, of_a, of_b, true);
    commit_products();
    wait_for_products<1>(sums);
  }
  store(y, t, sums[0]);
}

GRAPNEL_KERNEL(128) store_faults(GRAPNEL_IN_PLACE TensorMap y, Global<float> raw, int kind) {
  if (kind != 5) after_previous();
  const Shared<float> tile = shared_memory<float>();
  const unsigned t = thread().x;
  if (t < 32) store(tile, t, 1.0f);
  fence_proxy_async();
  sync_block();
  if (t != 0) return;
  store_tile(y, std::array{0, 0}, tile);
  if (kind == 0) store(tile, 0, 2.0f);  // while it is read
  if (kind == 1) return;
  commit_stores();
  if (kind == 2 || kind == 3) wait_for_stores_read<0>();
  if (kind == 2) store(tile, 0, 2.0f);
  if (kind == 3) store(raw, 1, load(raw, 0));  // read, but not yet written
  if (kind == 4) {
    wait_for_stores<0>();
    store(raw, 1, load(raw, 0));
  }
}

template <int given, int asked>
GRAPNEL_KERNEL(256)
register_faults(int) {
  after_previous();
  if (thread().x < 128)
    give_back_registers<given>();
  else
    ask_for_registers<asked>();
}

}  // namespace

TEST_CASE("Hopper, faults: barriers") {
  const Array<float> y(1);
  const auto kind = [&](int k) {
    return fault_of([&] { launch("barrier_faults", {1}, {64}, 128, barrier_faults, y.data(), k); });
  };
  check_has(kind(0), "no barrier was initialised at byte 0");
  check_has(kind(1), "this barrier is in use already");
  check_has(kind(2), "races with the barrier's initialisation by thread 0");
  check_has(kind(3), "arrives at the barrier at byte 0 after all 1 arrivals of phase 0");
  check_has(kind(4), "nobody can go on; thread 0 at hopper_faults_test.cpp:");
  check_has(kind(4),
            "for parity 0 of the barrier at byte 0, whose phase 0 lacks 1 of 2 arrivals and 0 bytes");
  check_has(kind(5),
            "for parity 0 of the barrier at byte 0, whose phase 0 lacks 0 of 1 arrivals and 16 bytes");
  check_has(kind(6), "waits for phase 0 of the barrier at byte 0, which is at phase 3 already");
  check_has(kind(7), "waits for phase 0 of the barrier at byte 0, which is at phase 2 already");
  check_has(kind(13),
            "phase 1 of the barrier at byte 0 ends before thread 0 is known to have seen the phase before");
  check_has(kind(8), "write to shared memory, 4 bytes: a barrier lies there");
  check_has(kind(9), "races with a write by thread 0");
  check_has(kind(10), "none");
  check_has(kind(11), "nobody can go on; thread 0 at hopper_faults_test.cpp:");
  check_has(kind(12), "for parity 1 of the barrier at byte 0, whose phase 1 lacks 1 of 1 arrivals");
}

TEST_CASE("Hopper, faults: copies of tiles") {
  const Array<float> x(numbers(64)), y(64);
  const auto kind = [&](int k) {
    return fault_of([&] { launch("load_faults", {1}, {64}, 2056, load_faults, rows_of(x), y.data(), k); });
  };
  check_has(kind(0), "initialised without fence_barrier_init");
  check_has(kind(1), "races with a write by a copy for the barrier at byte 2048");  // for thread 0
  check_has(kind(2), "whose phase 0 lacks 0 of 1 arrivals and has 64 bytes nobody expected");
  check_has(kind(3), "phase 0 of the barrier at byte 2048 ends before the copy of hopper_faults_test.cpp:");
  check_has(kind(4), "none");
  check_has(kind(5), "none");
  check_has(kind(6), "a tile in shared memory that is not aligned to 128");
  check_has(kind(7), "races with a write by a copy for the barrier at byte 2048");
  check_has(kind(8), "thread 0 stored there, and called no fence_proxy_async since");
  check_has(kind(9), "races with a write by a copy for the barrier at byte 2048");
  check_has(kind(10), "the block ends and nobody has waited for the copy of hopper_faults_test.cpp:");
  check_has(kind(11), "read of global memory, 16 bytes: without wait_for_previous");
}

TEST_CASE("Hopper, faults: products") {
  const Array<float> y(256);
  const auto kind = [&](int k) {
    return fault_of([&] { launch("product_faults", {1}, {256}, 8192, product_faults, y.data(), k); });
  };
  check_has(kind(0), "stored there, and called no fence_proxy_async since");
  check_has(kind(1), "races with a write by thread");
  check_has(kind(2), "thread 6 stored there, and called no fence_proxy_async since");
  check_has(kind(3), "read of shared memory, 16 bytes: reads what was never written");
  check_has(kind(4), "none");
  check_has(kind(5), "no fence_products of its sums since the thread touched them, or at all");
  check_has(kind(6), "its warpgroup is at hopper_faults_test.cpp:");
  check_has(kind(7), "nobody can go on; thread 0 and 95 more at hopper_faults_test.cpp:");
  check_has(kind(7), "for 32 threads of its warpgroup");
  check_has(kind(8), "adds to sums that were never set");
  check_has(kind(9), "touches sums of products that it has not waited for");
  check_has(kind(10), "races with a read by a product of warpgroup 0");
  check_has(kind(11), "the thread ends before its products");
  check_has(kind(12), "no fence_products of its sums");
  check_has(kind(13), "touches sums of products that it has not waited for");
  check_has(kind(14), "does not start within the first row of a swizzle's period");
  check_has(kind(16), "touches sums that it gave to no wait_for_products");
  CHECK(kind(15) == "none");
  CHECK(y[0] == 16);
}

TEST_CASE("Hopper, faults: stores of tiles") {
  const Array<float> y(numbers(64));
  const auto kind = [&](int k) {
    return fault_of([&] { launch("store_faults", {1}, {128}, 128, store_faults, rows_of(y), y.data(), k); });
  };
  check_has(kind(0), "races with a read by the reading side of a store_tile of thread 0");
  check_has(kind(1), "the thread ends before this store of its has read shared memory");
  check_has(kind(2), "none");
  check_has(kind(3), "races with a write by the writing side of a store_tile of thread 0");
  check_has(kind(4), "none");
  check_has(kind(5), "write to global memory, 16 bytes: without wait_for_previous");
}

TEST_CASE("Hopper, faults: registers that nobody gives back") {
  const auto kind = [](void (*kernel)(int)) {
    return fault_of([&] { launch("register_faults", {1}, {256}, 0, kernel, 0); });
  };
  check_has(kind(register_faults<232, 256>), "none");
  check_has(kind(register_faults<240, 256>), "none");
  check_has(kind(register_faults<248, 256>), "nobody can go on");
  check_has(kind(register_faults<248, 256>), "256 registers, which no warpgroup gives back");
  check_has(kind(register_faults<24, 24>), "has 248 registers and asks for 24");
}

TEST_CASE("Hopper, faults: tensor maps that the hardware refuses") {
  const Array<float> x(numbers(1024));
  const auto with = [&](const std::function<void(TensorLayout&)>& change, Swizzle swizzle = Swizzle::none) {
    return fault_of([&] {
      TensorLayout layout{2, {32, 32}, {4, 128}, {32, 8}};
      change(layout);
      make_tensor_map<float>(x.data(), layout, swizzle);
    });
  };
  check_has(with([](TensorLayout&) {}, Swizzle::bytes128), "none");
  check_has(with([](TensorLayout& t) { t.box[1] = 257; }), "a box of 257 in dimension 1, expected 1 to 256");
  check_has(with([](TensorLayout& t) { t.box[0] = 30; }),
            "rows of 120 bytes in the box, expected a multiple of 16");
  check_has(with([](TensorLayout&) {}, Swizzle::bytes64),
            "rows of 128 bytes in the box, expected the swizzle's 64");
  check_has(with([](TensorLayout& t) { t.strides[1] = 120; }), "expected a multiple of 16 below 2^40");
  check_has(with([](TensorLayout& t) { t.sizes[0] = 0; }), "size 0 in dimension 0");
  check_has(with([](TensorLayout& t) { t.steps[1] = 9; }), "a step of 9 in dimension 1");
}
