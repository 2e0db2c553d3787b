// Copies by pinned blocks, with a device that does nothing before somebody waits for it.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "grapnel/kernels/common/staging.h"

using namespace grapnel;
using kernels::DeviceFault;
using kernels::Staging;

namespace {

using Bytes = std::vector<unsigned char>;
constexpr Staging::Sizes kSizes{.small = 8, .large = 64, .blocks = 3};

/// What the calls below act on: a queue of copies and marks.
struct Fake {
  std::recursive_mutex mutex;
  std::deque<std::function<void()>> queue;
  std::deque<Bytes> pinned;
  std::deque<bool> events;  // whether they have come
  std::size_t most_pinned = 100;
  std::size_t direct = 0;  // copies from or to memory that is not pinned
  std::size_t waits = 0;
  // Which start, record or wait from now on throws: 0 is the next; below 0: none.
  int bad_start = -1, bad_record = -1, bad_wait = -1;
  bool gone = false;  // every wait throws
};
Fake* fake = nullptr;

void count_down(int& calls, const char* what) {
  if (calls >= 0 && calls-- == 0) throw DeviceFault(what);
}

void run_until(const std::function<bool()>& done) {
  while (!done() && !fake->queue.empty()) {
    fake->queue.front()();
    fake->queue.pop_front();
  }
}

void start(int device, void* to, const void* from, std::size_t bytes, const void* host) {
  const std::lock_guard lock(fake->mutex);
  CHECK(device == 5);
  count_down(fake->bad_start, "bad start");
  const bool is_pinned = std::any_of(fake->pinned.begin(), fake->pinned.end(),
                                     [&](const Bytes& block) { return block.data() == host; });
  const auto copy = [=] { std::memcpy(to, from, bytes); };
  if (!is_pinned) ++fake->direct;
  if (!is_pinned && host == from) {  // it has been read when this returns
    const Bytes kept(static_cast<const unsigned char*>(from),
                     static_cast<const unsigned char*>(from) + bytes);
    fake->queue.push_back([=] { std::memcpy(to, kept.data(), bytes); });
  } else {
    fake->queue.push_back(copy);
  }
}

constexpr Staging::Calls kCalls{
    [](int, std::size_t bytes) {
      const std::lock_guard lock(fake->mutex);
      if (fake->pinned.size() == fake->most_pinned) return Staging::Block{};
      fake->events.push_back(true);
      return Staging::Block{fake->pinned.emplace_back(bytes).data(), &fake->events.back()};
    },
    [](int device, void* to, const void* from, std::size_t bytes) { start(device, to, from, bytes, from); },
    [](int device, void* to, const void* from, std::size_t bytes) { start(device, to, from, bytes, to); },
    [](int, void* event) {
      const std::lock_guard lock(fake->mutex);
      count_down(fake->bad_record, "bad record");
      *static_cast<bool*>(event) = false;
      fake->queue.push_back([event] { *static_cast<bool*>(event) = true; });
    },
    [](int, void* event) {
      const std::lock_guard lock(fake->mutex);
      ++fake->waits;
      count_down(fake->bad_wait, "bad wait");
      if (fake->gone) throw DeviceFault("the device is gone");
      run_until([event] { return event && *static_cast<bool*>(event); });
    }};

/// A device of its own for each test.
struct Setup {
  Setup() { fake = &device; }
  ~Setup() { fake = nullptr; }
  Fake device;
  Staging staging{5, kCalls, kSizes};
};

Bytes numbered(std::size_t count, unsigned first = 1) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<unsigned char>(first + i * 7 + i / 64);
  return bytes;
}

/// There and back, changed on the host as soon as it has been read.
void check_round(Staging& staging, std::size_t count, unsigned first = 1) {
  CAPTURE(count);
  const Bytes expected = numbered(count, first);
  Bytes source = expected, memory(count + 1, 0xee), result(count + 1, 0xdd);
  staging.to_device(memory.data(), source.data(), count);
  std::fill(source.begin(), source.end(), 0);
  staging.to_host(result.data(), memory.data(), count);
  CHECK(std::equal(expected.begin(), expected.end(), result.begin()));
  CHECK(memory.back() == 0xee);
  CHECK(result.back() == 0xdd);
}

}  // namespace

TEST_CASE("staging: sizes around the borders of blocks") {
  Setup at;
  for (const std::size_t count : {0, 1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 192, 193, 1000, 1024})
    check_round(at.staging, count, static_cast<unsigned>(count));
  CHECK(at.device.direct == 0);
  CHECK(at.device.pinned.size() == 6);
}

TEST_CASE("staging: a copy to the device does not wait for it while there are blocks") {
  Setup at;
  const Bytes source = numbered(3 * 64);
  Bytes memory(source.size());
  at.staging.to_device(memory.data(), source.data(), source.size());
  CHECK(at.device.waits == 0);
  CHECK(memory == Bytes(source.size()));  // nothing has arrived
  SUBCASE("then for the block that has been busy longest") {
    at.staging.to_device(memory.data(), source.data(), 64);
    CHECK(at.device.waits == 1);
    CHECK(at.device.queue.size() == 6);  // two blocks and their events before, and one behind
    CHECK(std::equal(source.begin(), source.begin() + 64, memory.begin()));
    CHECK(memory[64] == 0);
  }
  SUBCASE("small copies have blocks of their own") {
    at.staging.to_device(memory.data(), source.data(), 8);
    CHECK(at.device.waits == 0);
    CHECK(at.device.pinned.size() == 4);
  }
  at.staging.to_host(memory.data(), memory.data(), 0);
  CHECK(at.device.queue.empty());
  CHECK(memory == source);
}

TEST_CASE("staging: copies to the host come after what was started before, several blocks at once") {
  Setup at;
  Bytes memory = numbered(200, 3), result(200);
  at.device.queue.push_back([&] { memory[150] = 99; });
  at.staging.to_host(result.data(), memory.data(), result.size());
  CHECK(result == memory);
  CHECK(result[150] == 99);
  CHECK(at.device.pinned.size() == 3);
  CHECK(at.device.waits == 4);  // once a piece
  at.device.queue.push_back([&] { memory[0] = 98; });
  at.staging.to_host(result.data(), memory.data(), 0);
  CHECK(memory[0] == 98);
}

TEST_CASE("staging: without pinned memory, or with less of it") {
  for (const std::size_t most : {0, 1, 2}) {
    CAPTURE(most);
    Setup at;
    at.device.most_pinned = most;
    for (const std::size_t count : {64, 200}) check_round(at.staging, count);
    CHECK(at.device.pinned.size() == most);
    CHECK((at.device.direct > 0) == (most == 0));
    const std::size_t before = at.device.direct;
    at.device.most_pinned = 100;  // whoever had none does not ask again
    for (const std::size_t count : {64, 200}) check_round(at.staging, count);
    CHECK(at.device.pinned.size() == most);
    CHECK(at.device.direct == 2 * before);
  }
}

TEST_CASE("staging: an error leaves it usable") {
  const Bytes source = numbered(300, 9);
  Bytes memory(source.size()), result(source.size());
  for (int which = 0; which < 3; ++which)
    for (int call = 0; call < 5; ++call)
      for (const bool to_device : {true, false}) {
        CAPTURE(which);
        CAPTURE(call);
        CAPTURE(to_device);
        Setup at;
        // To the device it waits twice: for five pieces there are three blocks.
        if (to_device && which == 2 && call > 1) continue;
        (which == 0 ? at.device.bad_start : which == 1 ? at.device.bad_record : at.device.bad_wait) = call;
        if (to_device)
          CHECK_THROWS_AS(at.staging.to_device(memory.data(), source.data(), source.size()), DeviceFault);
        else
          CHECK_THROWS_AS(at.staging.to_host(result.data(), source.data(), source.size()), DeviceFault);
        check_round(at.staging, 300);
        at.staging.to_device(memory.data(), source.data(), source.size());
        CHECK(at.device.queue.size() == 6);  // three blocks are under way: none was lost
        check_round(at.staging, 300);
        CHECK(at.device.direct == 0);
        CHECK(at.device.pinned.size() == 3);
      }
}

TEST_CASE("staging: blocks that cannot be waited for are never used again") {
  Setup at;
  Bytes memory = numbered(64), result(64);
  at.device.gone = true;
  for (int i = 0; i < 3; ++i)
    CHECK_THROWS_AS(at.staging.to_host(result.data(), memory.data(), 64), DeviceFault);
  at.device.gone = false;
  at.device.queue.clear();
  check_round(at.staging, 200);
  CHECK(at.device.pinned.size() == 3);
  CHECK(at.device.direct == 2);
  check_round(at.staging, 8);
  CHECK(at.device.direct == 2);
}

TEST_CASE("staging: threads copy at once") {
  Setup at;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < 50; ++i) {
        const std::size_t count = (t * 50 + i) % 2 ? 300 : 5 + i;
        const Bytes source = numbered(count, t * 50 + i);
        Bytes memory(count), result(count);
        at.staging.to_device(memory.data(), source.data(), count);
        at.staging.to_host(result.data(), memory.data(), count);
        if (result != source) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(at.device.direct == 0);
  CHECK(at.device.pinned.size() <= 6);
}
