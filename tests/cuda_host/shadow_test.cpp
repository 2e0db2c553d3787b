// What is remembered of each byte, whoever comes to it in whatever pieces and order.
#include <doctest/doctest.h>

#include "cuda_host/shadow.h"

using namespace grapnel::cuda_host;

namespace {

constexpr std::uint32_t kThreads = 128;

/// A block, and one thing beside its threads.
struct Members {
  explicit Members(std::uint32_t number) : block(number), clocks(kThreads + 1) {
    crew.fences.resize(kThreads);
    crew.others.push_back("a copy");
  }
  std::string access(Shadow& shadow, Access access, std::uint32_t member, std::size_t at, std::size_t bytes,
                     std::uint32_t launch = 1, bool alone = false) {
    return shadow.access({launch, block, member, &clocks[member], &crew, alone}, access, at, bytes);
  }
  std::string read(Shadow& shadow, std::uint32_t member, std::size_t at, std::size_t bytes) {
    return access(shadow, Access::read, member, at, bytes);
  }
  std::string write(Shadow& shadow, std::uint32_t member, std::size_t at, std::size_t bytes) {
    return access(shadow, Access::write, member, at, bytes);
  }
  /// A barrier of the first `count` threads.
  void meet(std::uint32_t count) {
    Meeting meeting(kThreads);
    for (std::uint32_t t = 0; t < count; ++t) meeting.bring(t, clocks[t]);
    const auto whole = meeting.whole();
    for (std::uint32_t t = 0; t < count; ++t) clocks[t].known = whole;
  }

  std::uint32_t block;
  std::vector<Clock> clocks;
  Crew crew;
};

}  // namespace

TEST_CASE("shadow: what was written together may be read apart, and the other way round") {
  Shadow shadow(4000);
  Members in(0);
  CHECK(in.write(shadow, 3, 16, 16) == "");
  for (const std::size_t bytes : {1, 2, 4, 8, 16})
    for (std::size_t at = 16; at < 32; at += bytes) CHECK(in.read(shadow, 3, at, bytes) == "");
  CHECK(in.read(shadow, 3, 15, 1) == "reads what was never written");
  CHECK(in.read(shadow, 3, 32, 1) == "reads what was never written");
  CHECK(in.read(shadow, 4, 21, 1) == "races with a write by thread 3");
  CHECK(in.write(shadow, 4, 16, 16) == "races with a write by thread 3");

  for (std::size_t at = 2000; at < 2048; at += 2) CHECK(in.write(shadow, 5, at, 2) == "");
  CHECK(in.read(shadow, 5, 2032, 16) == "");
  CHECK(in.write(shadow, 6, 2034, 1) == "races with a write by thread 5");
  CHECK(in.read(shadow, 5, 2044, 8) == "reads what was never written");  // beyond the page
}

TEST_CASE("shadow: what the host wrote counts to the byte, in whole pages and in parts") {
  Shadow shadow(3000);
  Members in(0);
  shadow.set_written(10, 2500);
  CHECK(in.read(shadow, 0, 9, 1) == "reads what was never written");
  CHECK(in.read(shadow, 0, 10, 2) == "");
  CHECK(in.read(shadow, 0, 1024, 16) == "");
  CHECK(in.read(shadow, 0, 2509, 1) == "");
  CHECK(in.read(shadow, 0, 2510, 1) == "reads what was never written");
  CHECK(in.write(shadow, 1, 1500, 4) == "");
  CHECK(in.read(shadow, 2, 1500, 4) == "races with a write by thread 1");
  shadow.set_written(0, 3000);
  CHECK(in.read(shadow, 2, 1500, 4) == "");
  CHECK(in.read(shadow, 2, 2992, 8) == "");
  shadow.forget();
  CHECK(in.read(shadow, 2, 1500, 4) == "reads what was never written");
  CHECK(in.read(shadow, 2, 2992, 8) == "reads what was never written");
}

TEST_CASE("shadow: whoever writes must know all who have read") {
  for (const std::uint32_t stranger : {0u, 31u, 32u, 63u, 70u, 127u}) {
    CAPTURE(stranger);
    Shadow shadow(64);
    Members in(0);
    shadow.set_written(0, 64);
    for (std::uint32_t t = 0; t < kThreads; ++t) CHECK(in.read(shadow, t, 4, 4) == "");
    in.meet(kThreads);
    CHECK(in.read(shadow, stranger, 4, 4) == "");  // once more
    const std::uint32_t writer = stranger == 5 ? 6 : 5;
    CHECK(in.write(shadow, writer, 4, 4) == "races with a read by thread " + std::to_string(stranger));
    CHECK(in.write(shadow, stranger, 4, 4) == "");
  }
  for (const std::uint32_t stranger : {0u, 31u, 32u, 63u, 70u, 127u}) {
    CAPTURE(stranger);
    Shadow shadow(64);
    Members in(0);
    shadow.set_written(0, 64);
    for (std::uint32_t t = 0; t < kThreads; ++t) CHECK(in.read(shadow, t, 4, 4) == "");
    // One who has heard of all but the stranger.
    Meeting meeting(kThreads);
    for (std::uint32_t t = 0; t < kThreads; ++t)
      if (t != stranger) meeting.bring(t, in.clocks[t]);
    in.clocks[5].known = meeting.whole();
    CHECK(in.write(shadow, 5, 4, 4) == "races with a read by thread " + std::to_string(stranger));
  }
  // Reads at different times of a warp's threads, of which some never come to the barrier.
  Shadow shadow(64);
  Members in(0);
  shadow.set_written(0, 64);
  for (std::uint32_t t = 0; t < kThreads; ++t) CHECK(in.read(shadow, t, 0, 4) == "");
  in.meet(10);
  for (std::uint32_t t = 0; t < 10; ++t) CHECK(in.read(shadow, t, 0, 4) == "");
  in.meet(10);
  CHECK(in.write(shadow, 0, 0, 4) == "races with a read by thread 10");
  in.meet(kThreads);
  CHECK(in.write(shadow, 0, 0, 4) == "");
}

TEST_CASE("shadow: two blocks that read are both remembered, and a launch forgets those of the last") {
  for (const std::uint32_t writer : {0u, 1u, 2u}) {
    CAPTURE(writer);
    Shadow shadow(64);
    std::vector<Members> blocks{Members(0), Members(1), Members(2), Members(3)};
    shadow.set_written(0, 64);
    for (const std::uint32_t b : {0u, 0u, 1u, 2u, 3u, 0u})
      for (const std::uint32_t t : {7u, 8u}) CHECK(blocks[b].read(shadow, t, 0, 16) == "");
    const char* const expected =
        writer == 0 ? "races with a read by thread 7 of block 1" : "races with a read by thread 7 of block 0";
    CHECK(blocks[writer].write(shadow, 7, 4, 4) == expected);
    CHECK(blocks[writer].access(shadow, Access::atomic, 7, 4, 4) == expected);
    CHECK(blocks[writer].access(shadow, Access::write, 7, 4, 4, 2) == "");
    CHECK(blocks[3].access(shadow, Access::read, 7, 4, 4, 2) ==
          "races with a write by thread 7 of block " + std::to_string(writer));
    CHECK(blocks[3].access(shadow, Access::read, 7, 8, 8, 2) == "");
  }
}

TEST_CASE("shadow: atomics go with atomics, and with nothing else") {
  Shadow shadow(64);
  Members a(0), b(1);
  shadow.set_written(0, 64);
  CHECK(a.access(shadow, Access::atomic, 0, 0, 4) == "");
  CHECK(b.access(shadow, Access::atomic, 0, 0, 4) == "");
  CHECK(b.read(shadow, 1, 0, 4) == "races with a write by thread 0");
  CHECK(a.write(shadow, 0, 0, 4) == "races with a write by thread 0 of block 1");
}

TEST_CASE("shadow: what runs beside the threads needs a fence of the one that stored") {
  Shadow shadow(64);
  Members in(0);
  CHECK(in.write(shadow, 2, 0, 16) == "");
  in.meet(kThreads);
  in.clocks[kThreads].known = in.clocks[2].known;
  CHECK(in.read(shadow, kThreads, 0, 16) == "thread 2 stored there, and called no fence_proxy_async since");
  in.crew.fences[2].push_back(in.clocks[2].now++);
  in.meet(kThreads);
  in.clocks[kThreads].known = in.clocks[2].known;
  CHECK(in.read(shadow, kThreads, 0, 16) == "");
  CHECK(in.write(shadow, 2, 0, 4) == "races with a read by a copy");
}
