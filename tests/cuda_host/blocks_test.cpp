// Blocks that run side by side: the same results, traffic and faults however many host threads there are, and
// races between blocks found by each.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "cuda_host/array.h"
#include "cuda_host/faults.h"
#include "cuda_host/host_threads.h"
#include "cuda_host/numbers.h"
#include "cuda_host/sample_kernels.cuh"

using namespace grapnel;
using namespace grapnel::samples;
using cuda_host::Array, cuda_host::check_has, cuda_host::fault_of, cuda_host::numbers;

namespace {

/// Calls f for one host thread, for two, and for more than there are cores.
template <class F>
void for_host_threads(const F& f) {
  for (const unsigned threads : {1u, 2u, 5u}) {
    CAPTURE(threads);
    const cuda_host::WithHostThreads with(threads);
    f();
  }
}

int number_of_block() {
  return static_cast<int>(block().x);
}

struct Begun {
  std::atomic<int> blocks = 0, faulty = 0;
};

/// Blocks 3 and 5 write out of bounds; where both run at once, `first` some time before the other.
GRAPNEL_KERNEL(1) fault_in_order(Global<float> y, int first, Begun* begun) {
  after_previous();
  ++begun->blocks;
  if (number_of_block() != 3 && number_of_block() != 5) return;
  ++begun->faulty;
  while (cuda_host::host_threads() > 1 && begun->faulty < 2) std::this_thread::yield();
  if (number_of_block() != first) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  store(y, 1000, 1);
}

GRAPNEL_KERNEL(1) fault_in_block(Global<float> y, int number, Begun* begun) {
  after_previous();
  ++begun->blocks;
  if (number_of_block() == number) store(y, 1000, 1);
}

GRAPNEL_KERNEL(32) throw_one(int kind) {
  after_previous();
  if (number_of_block() < 2 || lane() != 5) return;
  if (kind == 0) throw number_of_block();
  throw std::runtime_error("broken");
}

GRAPNEL_KERNEL(32) add_up(Global<unsigned> total, Global<std::uint64_t> squares) {
  after_previous();
  const unsigned before = atomic_add(total, lane() % 2, 1u);
  atomic_add(squares, 0, std::uint64_t{before} * before);
}

/// Each block writes an element and reads that of the next, all in the same eight sectors.
GRAPNEL_KERNEL(1) read_neighbour(Global<float> y, Global<float> of_neighbours) {
  after_previous();
  const unsigned mine = block().x, next = (mine + 1) % grid_size().x;
  store(y, mine, 1);
  store(of_neighbours, mine, load(y, next));
}

/// All blocks read, and one of them writes.
GRAPNEL_KERNEL(1) read_all_write_one(Global<float> y, Global<float> copies, int writer) {
  after_previous();
  store(copies, block().x, load(y, 0));
  if (number_of_block() == writer) store(y, 0, 1);
}

}  // namespace

TEST_CASE("host threads: results and traffic are the same for any number") {
  const cuda_host::CountTraffic counting;
  const int rows = 100, columns = 260;
  const Array<float> x(numbers(static_cast<std::size_t>(rows * columns)));
  std::vector<std::vector<float>> results;
  std::vector<cuda_host::Traffic> traffic;
  for_host_threads([&] {
    const Array<float> y(static_cast<std::size_t>(rows * columns)), sums(40);
    traffic.push_back(
        launch("transpose", {9, 4}, {256}, 33 * 32 * 4, transpose, y.data(), x.data(), rows, columns, 33));
    traffic.back() += launch("sum", {40}, {256}, 32, sum, sums.data(), x.data(), 777, 3, false);
    results.push_back(y.values());
    for (const float value : sums.values()) results.back().push_back(value);
  });
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j)
      REQUIRE(results[0][static_cast<std::size_t>(i * columns + j)] ==
              x[static_cast<std::size_t>(j * rows + i)]);
  CHECK(traffic[0].global_requests > 0);
  for (const std::size_t i : {1, 2}) {
    CHECK(results[i] == results[0]);
    CHECK(traffic[i].global_requests == traffic[0].global_requests);
    CHECK(traffic[i].global_sectors == traffic[0].global_sectors);
    CHECK(traffic[i].shared_requests == traffic[0].shared_requests);
    CHECK(traffic[i].shared_passes == traffic[0].shared_passes);
  }
}

TEST_CASE("host threads: atomics of all blocks add up") {
  for_host_threads([] {
    const Array<unsigned> total(std::vector<unsigned>{0, 0});
    const Array<std::uint64_t> squares(std::vector<std::uint64_t>{0});
    launch("add_up", {500}, {32}, 0, add_up, total.data(), squares.data());
    CHECK(total[0] == 8000);
    CHECK(total[1] == 8000);
    // Each of both counts from 0 to 7999 once.
    CHECK(squares[0] == 2 * (std::uint64_t{7999} * 8000 * 15999 / 6));
  });
}

TEST_CASE("host threads: the fault of the first block that has one is told") {
  const Array<float> y(100);
  for_host_threads([&] {
    for (const int first : {3, 5}) {
      Begun begun;
      check_has(fault_of([&] { launch("run_over", {6}, {1}, 0, fault_in_order, y.data(), first, &begun); }),
                "run_over, block 3, thread 0, blocks_test.cpp:");
    }
    check_has(fault_of([] { launch("throw_one", {9}, {32}, 0, throw_one, 1); }),
              "throw_one, block 2, thread 5, ");
    check_has(fault_of([] { launch("throw_one", {9}, {32}, 0, throw_one, 1); }), ": broken");
    CHECK_THROWS_AS(launch("throw_one", {9}, {32}, 0, throw_one, 0), int);
    // What a fault leaves behind is in nobody's way.
    Begun begun;
    launch("run_over", {9}, {1}, 0, fault_in_block, y.data(), 9, &begun);
    CHECK(begun.blocks == 9);
  });
}

TEST_CASE("host threads: no block begins after a fault") {
  const Array<float> y(100);
  for_host_threads([&] {
    // Another thread may run all of them before the fault is seen, but not each time.
    const auto begin_all = [&] {
      Begun begun;
      fault_of([&] { launch("run_over", {5000}, {1}, 0, fault_in_block, y.data(), 3, &begun); });
      return begun.blocks == 5000;
    };
    int tries = 1;
    while (tries < 20 && begin_all()) ++tries;
    CHECK(tries < 20);
  });
}

TEST_CASE("host threads: races between blocks are found by any number") {
  for_host_threads([] {
    for (int i = 0; i < 20; ++i) {
      const Array<float> y(std::vector<float>(64, 0)), copies(64);
      const std::string neighbour =
          fault_of([&] { launch("read_neighbour", {64}, {1}, 0, read_neighbour, y.data(), copies.data()); });
      check_has(neighbour, "races with a ");
      check_has(neighbour, " by thread 0 of block ");
    }
    for (const int writer : {0, 1, 20, 39})
      for (int i = 0; i < 5; ++i) {
        const Array<float> y(std::vector<float>(1, 0)), copies(40);
        check_has(fault_of([&] {
                    launch("read_all_write_one", {40}, {1}, 0, read_all_write_one, y.data(), copies.data(),
                           writer);
                  }),
                  " by thread 0 of block ");
      }
    const Array<float> y(std::vector<float>(1, 0)), copies(40);
    for (int i = 0; i < 3; ++i) {
      launch("read_all_write_one", {40}, {1}, 0, read_all_write_one, y.data(), copies.data(), 40);
      launch("read_all_write_one", {1}, {1}, 0, read_all_write_one, y.data(), copies.data(), 0);
    }
  });
}

TEST_CASE("host threads: launches from several follow one another") {
  const Array<float> x(numbers(777));
  const Array<float> alone(8);
  launch("sum", {8}, {256}, 32, sum, alone.data(), x.data(), 777, 1, false);
  std::vector<std::vector<float>> sums(3);
  std::vector<std::thread> threads;
  for (auto& mine : sums)
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        const Array<float> y(8);
        launch("sum", {8}, {256}, 32, sum, y.data(), x.data(), 777, 1, false);
        mine = y.values();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : sums) CHECK(mine == alone.values());
}
