// The state of what Hopper runs beside the threads of a block: barriers in shared memory (hopper.cpp), copies
// by tensor maps (hopper_tiles.cpp), products of warpgroups (hopper_products.cpp). Each is a member of the
// block's crew with a time of its own: a barrier's is the number of its phase, that of stores and products
// the number of their group. Who waits for them learns that time, so whoever touches their memory without
// having waited, or without having heard of one who has, races.
#pragma once

#include <map>
#include <optional>

#include "grapnel/kernels/common/hopper.cuh"

namespace grapnel::cuda_host {

inline constexpr unsigned kGroup = 128;  // threads of a warpgroup

struct Flight {
  unsigned bytes;
  Site site;
};

/// An mbarrier. The phase with number `phase` is under way.
struct BarrierState {
  explicit BarrierState(std::size_t members) : gathered(members) {}
  unsigned count = 0, pending = 0;
  std::int64_t bytes = 0;  // expected and not come
  unsigned phase = 0;
  std::uint32_t member = 0;
  unsigned made_by = 0, made_at = 0;
  bool fenced = false;
  Meeting gathered;                       // what those know who have arrived in this phase
  std::shared_ptr<const Times> released;  // what they knew in the last
  std::vector<Flight> flights;
  std::optional<Site> last_load;
  int load_phase = -1, waited_phase = -1;  // the last with copies; the last that anybody has waited for
  struct Waiter {
    int phase = -1;
    std::uint32_t time = 0;
  };
  std::map<unsigned, Waiter> waiters;
};

/// What a thread has under way.
struct ThreadState {
  unsigned open_products = 0, products = 0, known_products = 0;  // calls not committed; groups
  unsigned open_stores = 0, stores = 0, read_stores = 0;
  std::uint32_t reader = 0, writer = 0;  // members of the crew for its stores; 0 before the first
  Site last;
};

/// Four warps that come together.
struct WarpGroup {
  std::uint32_t member = 0;
  unsigned here = 0, rounds = 0;
  struct Call {
    Site site;
    std::array<std::uint64_t, 5> operands;
  } call{};               // what the first came to
  std::string call_name;  // for people
  std::array<float*, kGroup> sums{};
  std::array<std::array<std::uint32_t, 4>, kGroup> registers{};
  std::vector<std::shared_ptr<const Times>> released;  // by group of products
  unsigned register_count = 0;                         // of a thread
};

/// Where a byte of a packed tile lies: rows of the swizzle's span change the order of their pieces.
inline std::uintptr_t swizzled(std::uintptr_t at, device::Swizzle swizzle) {
  const unsigned pieces = device::span_of(swizzle) / 16;
  return at ^ (at >> 7 & (pieces - 1)) << 4;
}

class Hopper final : public Part {
 public:
  Hopper();

  bool turn() override;
  void thread_ends() override;
  void block_ends() override;
  std::string refuses(std::uintptr_t at, std::size_t bytes) const override;

  void init_barrier(std::uintptr_t at, unsigned count, const Site& site);
  void fence_barriers();
  void arrive(std::uintptr_t at, unsigned bytes, const Site& site);
  bool try_wait(std::uintptr_t at, unsigned parity, const Site& site);
  bool parity_ended(std::uintptr_t at, unsigned parity) const;
  std::string state_of(std::uintptr_t at, unsigned parity) const;
  void change_registers(unsigned count, bool more, const Site& site);

  /// A piece of 16 bytes on its way: its offset in the packed tile, where it lies in global memory, and which
  /// of its bytes are inside of the tensor.
  struct Piece {
    std::uintptr_t offset, global;
    unsigned skip, valid;
  };
  void load(std::uintptr_t shared, const device::TensorMap& map, const std::vector<Piece>& pieces,
            std::uintptr_t barrier_byte, const Site& site);
  void store_tile(const device::TensorMap& map, std::span<const int> at, std::uintptr_t shared,
                  const Site& site);
  void wait_for_stores(unsigned left, bool written);

  void multiply(const Product& product, float* sums, SumsState& state, const Site& site);
  void wait_for_products(unsigned left);

  /// What the running thread has under way.
  ThreadState& thread() { return threads_[thread_number()]; }

 private:
  std::uint32_t join_crew(const std::string& name);
  /// Of 16 bytes of shared memory, by a member of the crew.
  void* reach_piece(std::uint32_t member, const Clock& clock, std::uintptr_t shared, Access access,
                    const Site& site) const;
  BarrierState& barrier_at(std::uintptr_t at, const Site& site);
  void end_phase(std::uintptr_t at, BarrierState& barrier, const Site& site);
  WarpGroup& my_group(const char* what, const Site& site);
  /// All threads of the group come to the same call; the last carries it out.
  void together(WarpGroup& group, const WarpGroup::Call& call, const std::function<std::string()>& name,
                const std::function<void()>& last);
  void carry_out(WarpGroup& group, const Product& product, unsigned number, const Site& site);
  std::vector<double> read_operand(std::uint64_t descriptor, bool transposed, unsigned lines, bool tf32,
                                   std::uint32_t member, const Clock& clock, const Site& site) const;

  std::vector<ThreadState> threads_;
  std::vector<WarpGroup> groups_;
  std::map<std::uintptr_t, BarrierState> barriers_;
  unsigned register_pool_;
};

/// Of the running block.
Hopper& hopper();

}  // namespace grapnel::cuda_host
