// Copies by tensor maps, "cp.async.bulk.tensor" and "Tensors" in the PTX manual.
#include <algorithm>
#include <cmath>
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

void check_tile(std::uintptr_t shared, const device::TensorMap& map, std::size_t rank, bool of_pixels,
                const Site& site) {
  if (map.of_pixels != of_pixels)
    fault(map.of_pixels ? "a tensor map of pixels, expected one of boxes"
                        : "a tensor map of boxes, expected one of pixels",
          site);
  if (rank != map.layout.rank)
    fault("a place of " + std::to_string(rank) + " dimensions for a tensor map of " +
              std::to_string(map.layout.rank),
          site);
  const unsigned period = device::period_of(map.swizzle);
  if (shared % period)
    fault("a tile in shared memory that is not aligned to " + std::to_string(period), site);
}

/// The pieces of one copy, row by row.
class Pieces {
 public:
  explicit Pieces(const device::TensorMap& map) : map_(map) {}
  ~Pieces() {
    traffic().global_requests += 1;
    traffic().global_sectors += sectors_.size();
  }

  /// The next box[0] elements, from element `first` on of the row that starts `row` bytes into the tensor.
  void add(std::int64_t row, int first_element, bool inside) {
    const std::int64_t element = map_.element_bytes, row_bytes = map_.layout.box[0] * element;
    const std::int64_t size = static_cast<std::int64_t>(map_.layout.sizes[0]) * element;
    for (std::int64_t byte = 0; byte < row_bytes; byte += 16, offset_ += 16) {
      const std::int64_t first = first_element * element + byte;
      const std::int64_t from = std::clamp<std::int64_t>(-first, 0, 16),
                         to = std::clamp<std::int64_t>(size - first, 0, 16);
      const bool some = inside && from < to;
      const std::uintptr_t global = map_.data + static_cast<std::uintptr_t>(row + first);
      all.push_back({offset_, global, static_cast<unsigned>(some ? from : 0),
                     static_cast<unsigned>(some ? to - from : 0)});
      if (some)
        for (std::int64_t b = from; b < to; b += element)
          sectors_.insert((global + static_cast<std::uintptr_t>(b)) / 32);
    }
  }

  std::vector<Hopper::Piece> all;

 private:
  const device::TensorMap& map_;
  std::uintptr_t offset_ = 0;
  std::set<std::uintptr_t> sectors_;
};

std::vector<Hopper::Piece> pieces_of_box(const device::TensorMap& map, std::span<const int> at) {
  const device::TensorLayout& tensor = map.layout;
  std::array<std::uint64_t, 5> taken{1, 1, 1, 1, 1}, i{};
  for (unsigned d = 1; d < tensor.rank; ++d)
    taken[d] = (tensor.box[d] + std::uint64_t{tensor.steps[d]} - 1) / tensor.steps[d];
  Pieces pieces(map);
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
          pieces.add(row, at[0], inside);
        }
  return pieces.all;
}

std::vector<Hopper::Piece> pieces_of_pixels(const device::TensorMap& map, const std::array<int, 4>& at,
                                            const std::array<int, 2>& offset, const Site& site) {
  const device::TensorLayout& tensor = map.layout;
  std::array<std::int64_t, 4> place{at[0], at[1], at[2], at[3]}, end{}, size{};
  for (unsigned d = 0; d < 4; ++d) size[d] = static_cast<std::int64_t>(tensor.sizes[d]);
  for (unsigned d = 1; d < 3; ++d) {
    end[d] = size[d] + map.upper[d - 1];
    if (place[d] < map.lower[d - 1] || place[d] >= end[d])
      fault("pixels from " + std::to_string(place[d]) + " on in dimension " + std::to_string(d) +
                ", expected " + std::to_string(map.lower[d - 1]) + " to " + std::to_string(end[d] - 1),
            site);
    if (offset[d - 1] < 0 || offset[d - 1] > 255)
      fault("an offset of " + std::to_string(offset[d - 1]) + ", expected 0 to 255", site);
  }
  Pieces pieces(map);
  for (std::uint32_t pixel = 0; pixel < tensor.box[1]; ++pixel) {
    bool inside = place[3] >= 0 && place[3] < size[3];
    std::int64_t row = place[3] * static_cast<std::int64_t>(tensor.strides[3]);
    for (unsigned d = 1; d < 3; ++d) {
      const std::int64_t read = place[d] + offset[d - 1];
      inside &= read >= 0 && read < size[d];
      row += read * static_cast<std::int64_t>(tensor.strides[d]);
    }
    pieces.add(row, at[0], inside);
    for (unsigned d = 1; d < 3; ++d) {
      place[d] += tensor.steps[d];
      if (place[d] < end[d]) break;
      place[d] = map.lower[d - 1];
      if (d == 2) ++place[3];
    }
  }
  return pieces.all;
}

/// To nearest, ties to even; NaN stays.
void round_to_tf32(std::array<std::byte, 16>& piece) {
  for (std::size_t byte = 0; byte < piece.size(); byte += sizeof(float)) {
    float value;
    std::memcpy(&value, &piece[byte], sizeof value);
    if (!std::isfinite(value) || value == 0) continue;
    int exponent;
    std::frexp(value, &exponent);
    value = std::ldexp(std::nearbyint(std::ldexp(value, 11 - exponent)), exponent - 11);
    std::memcpy(&piece[byte], &value, sizeof value);
  }
}

}  // namespace

void* Hopper::reach_piece(std::uint32_t member, const Clock& clock, std::uintptr_t shared, Access access,
                          const Site& site) const {
  const std::string against = refuses(shared, 16);
  if (!against.empty()) fault(against, site);
  return reach_as(member, clock, Space::shared, shared, 16, 16, access, site);
}

void Hopper::load(std::uintptr_t shared, const device::TensorMap& map, const std::vector<Piece>& pieces,
                  std::uintptr_t barrier_byte, const Site& site) {
  BarrierState& barrier = barrier_at(barrier_byte, site);
  if (!barrier.fenced) fault("the barrier was initialised without fence_barrier_init", site);
  barrier.load_phase = static_cast<int>(barrier.phase);
  barrier.last_load = site;
  const Clock clock = clock_of_issue(barrier.phase + 1);
  for (const auto& [offset, global, skip, valid] : pieces) {
    std::array<std::byte, 16> piece{};
    if (valid)
      std::memcpy(&piece[skip],
                  reach_as(barrier.member, clock, Space::global, global + skip, valid, map.element_bytes,
                           Access::read, site),
                  valid);
    if (map.rounding == device::Rounding::tf32) round_to_tf32(piece);
    std::memcpy(
        reach_piece(barrier.member, clock, swizzled(shared + offset, map.swizzle), Access::write, site),
        piece.data(), piece.size());
  }
  barrier.flights.push_back({static_cast<unsigned>(16 * pieces.size()), site});
}

void Hopper::store_tile(const device::TensorMap& map, std::span<const int> at, std::uintptr_t shared,
                        const Site& site) {
  check_tile(shared, map, at.size(), false, site);
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
  for (const auto& [offset, global, skip, valid] : pieces_of_box(map, at)) {
    const auto* piece = static_cast<const std::byte*>(
        reach_piece(me.reader, clock, swizzled(shared + offset, map.swizzle), Access::read, site));
    if (valid)
      std::memcpy(reach_as(me.writer, clock, Space::global, global + skip, valid, map.element_bytes,
                           Access::write, site),
                  piece + skip, valid);
  }
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
  ++tensor_maps_made;
  const device::TensorLayout& tensor = map.layout;
  const auto refuse = [](const std::string& what) { throw Fault("a tensor map: " + what); };
  const auto in_dimension = [](unsigned d) { return " in dimension " + std::to_string(d); };
  if (tensor.rank < 1 || tensor.rank > 5) refuse("rank " + std::to_string(tensor.rank) + ", expected 1 to 5");
  if (map.data % 16) refuse("data that are not aligned to 16");
  for (unsigned d = 0; d < tensor.rank; ++d) {
    if (tensor.sizes[d] == 0 || tensor.sizes[d] > std::uint64_t{1} << 32)
      refuse("size " + std::to_string(tensor.sizes[d]) + in_dimension(d) + ", expected 1 to 2^32");
    const unsigned most = map.of_pixels && d == 1 ? 1024 : 256;
    if ((tensor.box[d] == 0 && (d < 2 || !map.of_pixels)) || tensor.box[d] > most)
      refuse("a box of " + std::to_string(tensor.box[d]) + in_dimension(d) + ", expected 1 to " +
             std::to_string(most));
    if (tensor.steps[d] == 0 || tensor.steps[d] > 8)
      refuse("a step of " + std::to_string(tensor.steps[d]) + in_dimension(d) + ", expected 1 to 8");
    if (d == 0 ? tensor.strides[0] != map.element_bytes
               : tensor.strides[d] % 16 != 0 || tensor.strides[d] >= std::uint64_t{1} << 40)
      refuse("a stride of " + std::to_string(tensor.strides[d]) + " bytes" + in_dimension(d) +
             (d == 0 ? ", expected that of an element" : ", expected a multiple of 16 below 2^40"));
  }
  if (map.rounding == device::Rounding::tf32 && map.element_bytes != sizeof(float))
    refuse("rounds to TF32 what are not floats");
  if (tensor.steps[0] != 1) refuse("a step in dimension 0, which the hardware ignores");
  for (unsigned d = 0; map.of_pixels && d < 2; ++d) {
    if (std::min(map.lower[d], map.upper[d]) < -128 || std::max(map.lower[d], map.upper[d]) > 127)
      refuse("corners " + std::to_string(map.lower[d]) + " and " + std::to_string(map.upper[d]) +
             in_dimension(d + 1) + ", expected -128 to 127");
    if (static_cast<std::int64_t>(tensor.sizes[d + 1]) + map.upper[d] <= map.lower[d])
      refuse("no pixels between the corners" + in_dimension(d + 1));
  }
  const unsigned row = tensor.box[0] * map.element_bytes, span = device::span_of(map.swizzle);
  if (row % 16) refuse("rows of " + std::to_string(row) + " bytes in the box, expected a multiple of 16");
  if (map.swizzle != Swizzle::none && row != span)
    refuse("rows of " + std::to_string(row) + " bytes in the box, expected the swizzle's " +
           std::to_string(span));
}

void load_tile(std::uintptr_t shared, const device::TensorMap& map, std::span<const int> at,
               std::uintptr_t barrier, const Site& site) {
  check_tile(shared, map, at.size(), false, site);
  hopper().load(shared, map, pieces_of_box(map, at), barrier, site);
}

void load_pixels(std::uintptr_t shared, const device::TensorMap& map, const std::array<int, 4>& at,
                 const std::array<int, 2>& offset, std::uintptr_t barrier, const Site& site) {
  check_tile(shared, map, at.size(), true, site);
  hopper().load(shared, map, pieces_of_pixels(map, at, offset, site), barrier, site);
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
