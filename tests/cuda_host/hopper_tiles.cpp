// Copies by tensor maps, "cp.async.bulk.tensor" and "Tensors" in the PTX manual.
#include <algorithm>
#include <cstring>
#include <set>

#include "cuda_host/hopper_block.h"

namespace grapnel::cuda_host {
namespace {

using device::Swizzle;

/// What the running thread knows, itself included, at a time of somebody else's.
Clock clock_of_issue(std::uint32_t now) {
  const Clock& mine = clock_of(thread_number());
  Times known = mine.known ? *mine.known : Times{};
  if (known.size() <= thread_number()) known.resize(thread_number() + 1);
  known[thread_number()] = mine.now;
  return {std::make_shared<const Times>(std::move(known)), now};
}

void check_tile(std::uintptr_t shared, const device::TensorMap& map, std::span<const int> at,
                const Site& site) {
  if (at.size() != map.layout.rank)
    fault("a place of " + std::to_string(at.size()) + " dimensions for a tensor map of " +
              std::to_string(map.layout.rank),
          site);
  const unsigned period = device::period_of(map.swizzle);
  if (shared % period)
    fault("a tile in shared memory that is not aligned to " + std::to_string(period), site);
}

/// Calls with every 16 bytes of the box: offset in the packed tile, where they lie in global memory, and
/// which of them are inside of the tensor. Returns the bytes of the box.
template <class Body>
unsigned each_piece(const device::TensorMap& map, std::span<const int> at, const Body& body) {
  const device::TensorLayout& tensor = map.layout;
  std::array<std::uint64_t, 5> taken{1, 1, 1, 1, 1}, i{};
  for (unsigned d = 0; d < tensor.rank; ++d) {
    const std::uint64_t step = d == 0 ? 1 : tensor.steps[d];
    taken[d] = (tensor.box[d] + step - 1) / step;
  }
  const std::int64_t element = map.element_bytes, row_bytes = static_cast<std::int64_t>(taken[0]) * element;
  const std::int64_t size = static_cast<std::int64_t>(tensor.sizes[0]) * element;
  std::uintptr_t offset = 0;
  std::set<std::uintptr_t> sectors;
  for (i[4] = 0; i[4] < taken[4]; ++i[4])
    for (i[3] = 0; i[3] < taken[3]; ++i[3])
      for (i[2] = 0; i[2] < taken[2]; ++i[2])
        for (i[1] = 0; i[1] < taken[1]; ++i[1]) {
          bool inside = true;
          std::int64_t row = 0;
          for (unsigned d = 1; d < tensor.rank; ++d) {
            const std::int64_t place = at[d] + static_cast<std::int64_t>(i[d] * tensor.steps[d]);
            inside &= place >= 0 && place < static_cast<std::int64_t>(tensor.sizes[d]);
            row += place * static_cast<std::int64_t>(tensor.strides[d]);
          }
          for (std::int64_t byte = 0; byte < row_bytes; byte += 16, offset += 16) {
            const std::int64_t first = at[0] * element + byte;
            const std::int64_t from = std::clamp<std::int64_t>(-first, 0, 16),
                               to = std::clamp<std::int64_t>(size - first, 0, 16);
            const bool some = inside && from < to;
            const std::uintptr_t global = map.data + static_cast<std::uintptr_t>(row + first);
            body(offset, global, static_cast<unsigned>(some ? from : 0),
                 static_cast<unsigned>(some ? to - from : 0));
            if (some)
              for (std::int64_t b = from; b < to; b += element)
                sectors.insert((global + static_cast<std::uintptr_t>(b)) / 32);
          }
        }
  traffic().global_requests += 1;
  traffic().global_sectors += sectors.size();
  return static_cast<unsigned>(offset);
}

}  // namespace

void* Hopper::reach_piece(std::uint32_t member, const Clock& clock, std::uintptr_t shared, Access access,
                          const Site& site) const {
  const std::string against = refuses(shared, 16);
  if (!against.empty()) fault(against, site);
  return reach_as(member, clock, Space::shared, shared, 16, 16, access, site);
}

void Hopper::load_tile(std::uintptr_t shared, const device::TensorMap& map, std::span<const int> at,
                       std::uintptr_t barrier_byte, const Site& site) {
  BarrierState& barrier = barrier_at(barrier_byte, site);
  if (!barrier.fenced) fault("the barrier was initialised without fence_barrier_init", site);
  check_tile(shared, map, at, site);
  barrier.load_phase = static_cast<int>(barrier.phase);
  barrier.last_load = site;
  const Clock clock = clock_of_issue(barrier.phase + 1);
  const unsigned bytes =
      each_piece(map, at, [&](std::uintptr_t offset, std::uintptr_t global, unsigned skip, unsigned valid) {
        std::array<std::byte, 16> piece{};
        if (valid)
          std::memcpy(&piece[skip],
                      reach_as(barrier.member, clock, Space::global, global + skip, valid, map.element_bytes,
                               Access::read, site),
                      valid);
        std::memcpy(
            reach_piece(barrier.member, clock, swizzled(shared + offset, map.swizzle), Access::write, site),
            piece.data(), piece.size());
      });
  barrier.flights.push_back({bytes, site});
}

void Hopper::store_tile(const device::TensorMap& map, std::span<const int> at, std::uintptr_t shared,
                        const Site& site) {
  check_tile(shared, map, at, site);
  for (unsigned d = 0; d < map.layout.rank; ++d)
    if (map.layout.steps[d] != 1) fault("stores through a tensor map with steps", site);
  ThreadState& me = thread();
  if (me.reader == 0) {
    const std::string of = " a store_tile of thread " + std::to_string(thread_number());
    me.reader = join_crew("the reading side of" + of);
    me.writer = join_crew("the writing side of" + of);
  }
  ++me.open_stores;
  me.last = site;
  const Clock clock = clock_of_issue(me.stores + 1);
  each_piece(map, at, [&](std::uintptr_t offset, std::uintptr_t global, unsigned skip, unsigned valid) {
    const auto* piece = static_cast<const std::byte*>(
        reach_piece(me.reader, clock, swizzled(shared + offset, map.swizzle), Access::read, site));
    if (valid)
      std::memcpy(reach_as(me.writer, clock, Space::global, global + skip, valid, map.element_bytes,
                           Access::write, site),
                  piece + skip, valid);
  });
}

void Hopper::wait_for_stores(unsigned left, bool written) {
  ThreadState& me = thread();
  if (me.stores <= left || me.reader == 0) return;
  me.read_stores = std::max(me.read_stores, me.stores - left);
  Times done(me.writer + 1);
  done[me.reader] = me.stores - left;
  if (written) done[me.writer] = me.stores - left;
  clock_of(thread_number()).learn(std::make_shared<const Times>(done));
}

void check_tensor_map(const device::TensorMap& map) {
  const device::TensorLayout& tensor = map.layout;
  const auto refuse = [](const std::string& what) { throw Fault("a tensor map: " + what); };
  const auto in_dimension = [](unsigned d) { return " in dimension " + std::to_string(d); };
  if (tensor.rank < 1 || tensor.rank > 5) refuse("rank " + std::to_string(tensor.rank) + ", expected 1 to 5");
  if (map.data % 16) refuse("data that are not aligned to 16");
  for (unsigned d = 0; d < tensor.rank; ++d) {
    if (tensor.sizes[d] == 0 || tensor.sizes[d] > std::uint64_t{1} << 32)
      refuse("size " + std::to_string(tensor.sizes[d]) + in_dimension(d) + ", expected 1 to 2^32");
    if (tensor.box[d] == 0 || tensor.box[d] > 256)
      refuse("a box of " + std::to_string(tensor.box[d]) + in_dimension(d) + ", expected 1 to 256");
    if (tensor.steps[d] == 0 || tensor.steps[d] > 8)
      refuse("a step of " + std::to_string(tensor.steps[d]) + in_dimension(d) + ", expected 1 to 8");
    if (d == 0 ? tensor.strides[0] != map.element_bytes
               : tensor.strides[d] % 16 != 0 || tensor.strides[d] >= std::uint64_t{1} << 40)
      refuse("a stride of " + std::to_string(tensor.strides[d]) + " bytes" + in_dimension(d) +
             (d == 0 ? ", expected that of an element" : ", expected a multiple of 16 below 2^40"));
  }
  if (tensor.steps[0] != 1) refuse("a step in dimension 0, which the hardware ignores");
  const unsigned row = tensor.box[0] * map.element_bytes, span = device::span_of(map.swizzle);
  if (row % 16) refuse("rows of " + std::to_string(row) + " bytes in the box, expected a multiple of 16");
  if (map.swizzle != Swizzle::none && row != span)
    refuse("rows of " + std::to_string(row) + " bytes in the box, expected the swizzle's " +
           std::to_string(span));
}

void load_tile(std::uintptr_t shared, const device::TensorMap& map, std::span<const int> at,
               std::uintptr_t barrier, const Site& site) {
  hopper().load_tile(shared, map, at, barrier, site);
}

void store_tile(const device::TensorMap& map, std::span<const int> at, std::uintptr_t shared,
                const Site& site) {
  hopper().store_tile(map, at, shared, site);
}

void commit_stores() {
  ThreadState& me = hopper().thread();
  me.open_stores = 0;
  ++me.stores;
}

void wait_for_stores(unsigned left, bool written) {
  hopper().wait_for_stores(left, written);
}

}  // namespace grapnel::cuda_host
