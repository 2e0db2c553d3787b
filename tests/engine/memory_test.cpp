// Where the memory of tensors comes from, and where it goes.
#include <doctest/doctest.h>

#include <vector>

#include "grapnel/engine/random.h"
#include "grapnel/engine/storage.h"
#include "grapnel/engine/tensor.h"
#include "support/device.h"

using namespace grapnel;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

Tensor bytes(std::size_t count) {
  return Tensor::empty({static_cast<std::int64_t>(count)}, DType::uint8);
}

std::uint64_t requests() {
  return memory_use().system_requests;
}

}  // namespace

TEST_CASE("memory in use is counted, and its peak" * testing::on_cpu_only("the CPU's memory is counted")) {
  release_cached_memory();
  const std::size_t before = memory_use().in_use;
  {
    const Tensor a = bytes(3 * kMiB), b = bytes(1000);
    CHECK(memory_use().in_use == before + 3 * kMiB + 1024);
    CHECK(memory_use().peak_in_use >= memory_use().in_use);
  }
  CHECK(memory_use().in_use == before);
}

TEST_CASE("freed memory serves again: small blocks by size, large ones cut and joined" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  release_cached_memory();
  { const Tensor warm = bytes(5000); }
  { const Tensor warm = bytes(48 * kMiB); }
  const std::uint64_t before = requests();

  { const Tensor same = bytes(5000); }
  CHECK(requests() == before);
  { const Tensor other = bytes(5300); }
  CHECK(requests() == before + 1);

  std::vector<Tensor> parts;
  for (int i = 0; i < 11; ++i) parts.push_back(bytes(4 * kMiB));
  CHECK(requests() == before + 1);
  // Whatever the order in which neighbours are freed, they end as one block.
  for (const int i : {3, 1, 2, 10, 0, 5, 4, 9, 7, 8, 6}) parts[static_cast<std::size_t>(i)] = Tensor();
  { const Tensor whole = bytes(47 * kMiB); }
  CHECK(requests() == before + 1);
}

TEST_CASE("what a step took stays for the next step, however much it was" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  release_cached_memory();
  const auto step = [] {
    std::vector<Tensor> large;  // 3 GiB of address space, of which nothing is touched
    for (int i = 0; i < 12; ++i) large.push_back(bytes(256 * kMiB));
  };
  step();
  const std::uint64_t before = requests();
  step();
  CHECK(requests() == before);
  release_cached_memory();
}

TEST_CASE("blocks do not overlap, and what they hold stays" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  release_cached_memory();
  std::vector<Tensor> tensors;
  Generator generator(1);
  for (int round = 0; round < 300; ++round) {
    const std::size_t place = generator.bits() % 12;
    if (place >= tensors.size()) tensors.resize(place + 1);
    const std::size_t size = 1 + generator.bits() % (2 * kMiB);
    tensors[place] =
        Tensor::full({static_cast<std::int64_t>(size)}, static_cast<double>(place), DType::uint8);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (!tensors[i].defined()) continue;
      const auto* data = tensors[i].data<std::uint8_t>();
      CHECK(data[0] == i);
      CHECK(data[tensors[i].numel() - 1] == i);
    }
  }
}

TEST_CASE("unused memory goes back when asked for" * testing::on_cpu_only("the CPU's memory is counted")) {
  release_cached_memory();
  const Tensor kept = bytes(kMiB);
  { const Tensor large = bytes(300 * kMiB), small = bytes(2000); }
  CHECK(memory_use().cached >= 300 * kMiB);
  release_cached_memory();
  CHECK(memory_use().cached == 0);
  const std::uint64_t before = requests();
  { const Tensor again = bytes(300 * kMiB); }
  CHECK(requests() == before + 1);
}

TEST_CASE("large blocks that lie free beside each other serve as one, whoever asked for them" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  release_cached_memory();
  const Tensor kept = bytes(kMiB);
  { const Tensor a = bytes(300 * kMiB), b = bytes(400 * kMiB), c = bytes(200 * kMiB); }
  const std::uint64_t before = requests();
  { const Tensor all = bytes(899 * kMiB); }
  CHECK(requests() == before);
}

TEST_CASE("a block comes from the smallest hole that holds it" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  release_cached_memory();
  const Tensor first = bytes(kMiB);
  Tensor large = bytes(64 * kMiB);
  const Tensor between = bytes(kMiB);
  Tensor small = bytes(16 * kMiB);
  const Tensor last = bytes(kMiB);
  const void* hole = small.raw_data();
  large = Tensor();
  small = Tensor();
  const Tensor fits = bytes(16 * kMiB);
  CHECK(fits.raw_data() == hole);
}

TEST_CASE("a step that grows does not keep what no longer fits beside what it takes" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  release_cached_memory();
  const std::size_t used = memory_use().in_use;
  std::size_t most = 0;
  for (int grown = 0; grown < 8; ++grown) {  // 2 GiB of address space and more, a little larger each time
    std::vector<Tensor> blocks;
    for (int i = 0; i < 4; ++i) blocks.push_back(bytes((512 + 16 * grown) * kMiB));
    const MemoryUse use = memory_use();
    most = std::max(most, use.in_use + use.cached - used);
  }
  CHECK(most < 4 * (512 + 16 * 7) * kMiB / 8 * 9);
  release_cached_memory();
}
