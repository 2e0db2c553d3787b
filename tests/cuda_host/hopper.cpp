// Barriers in shared memory, and which registers a warpgroup has.
#include "cuda_host/hopper_block.h"

namespace grapnel::cuda_host {
namespace {

constexpr std::int64_t kMostBytes = (1 << 20) - 1;  // of a phase; as many arrivals

}  // namespace

Hopper& hopper() {
  if (!part()) part() = std::make_unique<Hopper>();
  return static_cast<Hopper&>(*part());
}

Hopper::Hopper() : threads_(block_dim().count()), groups_(threads_.size() / kGroup) {
  const auto all = static_cast<unsigned>(threads_.size());
  register_pool_ = std::min(255u, 65536 / all) / 8 * 8 * all;
  for (WarpGroup& group : groups_) group.register_count = register_pool_ / all;
}

bool Hopper::turn() {
  bool any = false;
  for (auto& [at, barrier] : barriers_) {
    if (barrier.flights.empty()) continue;
    for (const Flight& flight : barrier.flights) barrier.bytes -= flight.bytes;
    barrier.flights.clear();
    end_phase(at, barrier, *barrier.last_load);
    any = true;
  }
  return any;
}

void Hopper::thread_ends() {
  const ThreadState& me = thread();
  if (me.open_products || me.known_products < me.products)
    fault("the thread ends before its products", me.last);
  if (me.open_stores || (me.reader && me.read_stores < me.stores))
    fault("the thread ends before this store of its has read shared memory", me.last);
}

void Hopper::block_ends() {
  for (const auto& [at, barrier] : barriers_)
    if (barrier.load_phase > barrier.waited_phase)
      throw Fault("the block ends and nobody has waited for the copy of " + place_of(*barrier.last_load));
}

std::string Hopper::refuses(std::uintptr_t at, std::size_t bytes) const {
  const auto after = barriers_.lower_bound(at + bytes);
  if (after == barriers_.begin() || std::prev(after)->first + 8 <= at) return {};
  return "a barrier lies there";
}

// --- the PTX manual's "mbarrier" ---

void Hopper::init_barrier(std::uintptr_t at, unsigned count, const Site& site) {
  if (count == 0 || count > kMostBytes)
    fault("a barrier of " + std::to_string(count) + " arrivals, expected 1 to 2^20 - 1", site);
  if (!refuses(at, 8).empty()) fault("this barrier is in use already", site);
  const unsigned me = thread_number();
  reach_as(me, clock_of(me), Space::shared, at, 8, 8, Access::write, site);
  BarrierState& barrier = barriers_.emplace(at, BarrierState(threads_.size())).first->second;
  barrier.count = barrier.pending = count;
  barrier.member = join_crew("a copy for the barrier at byte " + std::to_string(at));
  barrier.made_by = me;
  barrier.made_at = clock_of(me).now;
}

void Hopper::fence_barriers() {
  for (auto& [at, barrier] : barriers_)
    if (barrier.made_by == thread_number()) barrier.fenced = true;
}

BarrierState& Hopper::barrier_at(std::uintptr_t at, const Site& site) {
  const auto found = barriers_.find(at);
  if (found == barriers_.end())
    fault("no barrier was initialised at byte " + std::to_string(at) + " of shared memory", site);
  const BarrierState& barrier = found->second;
  if (barrier.made_by != thread_number() &&
      !clock_of(thread_number()).knows(barrier.made_by, barrier.made_at))
    fault("races with the barrier's initialisation by thread " + std::to_string(barrier.made_by), site);
  return found->second;
}

void Hopper::arrive(std::uintptr_t at, unsigned bytes, const Site& site) {
  BarrierState& barrier = barrier_at(at, site);
  if (barrier.pending == 0)
    fault("arrives at the barrier at byte " + std::to_string(at) + " after all " +
              std::to_string(barrier.count) + " arrivals of phase " + std::to_string(barrier.phase),
          site);
  barrier.bytes += bytes;
  if (barrier.bytes > kMostBytes) fault("expects more than 2^20 - 1 bytes in a phase", site);
  barrier.gathered.bring(thread_number(), clock_of(thread_number()));
  --barrier.pending;
  end_phase(at, barrier, site);
}

bool Hopper::try_wait(std::uintptr_t at, unsigned parity, const Site& site) {
  if (parity > 1) fault("a parity of " + std::to_string(parity) + ", expected 0 or 1", site);
  BarrierState& barrier = barrier_at(at, site);
  BarrierState::Waiter& me = barrier.waiters[thread_number()];
  const int wanted = me.phase + 1, under_way = static_cast<int>(barrier.phase);
  if (parity == static_cast<unsigned>(wanted) % 2 && under_way >= wanted + 2)
    fault("waits for phase " + std::to_string(wanted) + " of the barrier at byte " + std::to_string(at) +
              ", which is at phase " + std::to_string(under_way) + " already",
          site);
  if (barrier.phase % 2 == parity) return false;
  Clock& clock = clock_of(thread_number());
  clock.learn(barrier.released);
  me = {under_way - 1, clock.now};
  barrier.waited_phase = std::max(barrier.waited_phase, me.phase);
  return true;
}

std::string Hopper::state_of(std::uintptr_t at, unsigned parity) const {
  const BarrierState& barrier = barriers_.at(at);
  std::string result = "parity " + std::to_string(parity) + " of the barrier at byte " + std::to_string(at) +
                       ", whose phase " + std::to_string(barrier.phase) + " lacks " +
                       std::to_string(barrier.pending) + " of " + std::to_string(barrier.count) +
                       " arrivals and ";
  return barrier.bytes < 0 ? result + "has " + std::to_string(-barrier.bytes) + " bytes nobody expected"
                           : result + std::to_string(barrier.bytes) + " bytes";
}

bool Hopper::parity_ended(std::uintptr_t at, unsigned parity) const {
  return barriers_.at(at).phase % 2 != parity;
}

void Hopper::end_phase(std::uintptr_t at, BarrierState& barrier, const Site& site) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  const std::string phase =
      "phase " + std::to_string(barrier.phase) + " of the barrier at byte " + std::to_string(at);
  if (!barrier.flights.empty())
    fault(phase + " ends before the copy of " + place_of(barrier.flights.front().site) +
              ", whose bytes nobody expected",
          site);
  barrier.gathered.note(barrier.member, barrier.phase + 1);
  barrier.released = barrier.gathered.whole();
  const Clock all{barrier.released, 0};
  for (const auto& [thread, waiter] : barrier.waiters)
    if (waiter.phase + 1 == static_cast<int>(barrier.phase) && !all.knows(thread, waiter.time))
      fault(phase + " ends before thread " + std::to_string(thread) +
                " is known to have seen the phase before: it may wait for ever",
            site);
  barrier.gathered = Meeting(threads_.size());
  barrier.pending = barrier.count;
  ++barrier.phase;
}

std::uint32_t Hopper::join_crew(const std::string& name) {
  crew().others.push_back(name);
  return static_cast<std::uint32_t>(threads_.size() + crew().others.size() - 1);
}

// --- warpgroups, and "setmaxnreg" ---

WarpGroup& Hopper::my_group(const char* what, const Site& site) {
  const unsigned group = thread_number() / kGroup;
  if (group >= groups_.size()) fault(std::string(what) + " needs a whole warpgroup of 128 threads", site);
  return groups_[group];
}

void Hopper::together(WarpGroup& group, const WarpGroup::Call& call, const std::function<std::string()>& name,
                      const std::function<void()>& last) {
  const Site& site = call.site;
  const auto whole_name = [&] { return place_of(site) + ", " + name(); };
  if (group.here == 0) {
    group.call = call;
    group.call_name = whole_name();
  } else if (!same_line(group.call.site, site) || group.call.operands != call.operands) {
    fault("its warpgroup is at " + group.call_name + "; this thread came to " + whole_name(), site);
  }
  if (++group.here == kGroup) {
    group.here = 0;
    last();
    ++group.rounds;
    return;
  }
  const unsigned round = group.rounds;
  wait_until([&group, round] { return group.rounds != round; },
             [&group] { return std::to_string(kGroup - group.here) + " threads of its warpgroup"; }, site);
}

void Hopper::change_registers(unsigned count, bool more, const Site& site) {
  WarpGroup& group = my_group("a change of its registers", site);
  if (more ? count < group.register_count : count > group.register_count)
    fault("has " + std::to_string(group.register_count) + " registers and " +
              (more ? "asks for " : "gives back all but ") + std::to_string(count),
          site);
  const auto fits = [this, &group, count] {
    unsigned all = count * kGroup;
    for (const WarpGroup& other : groups_)
      if (&other != &group) all += other.register_count * kGroup;
    return all <= register_pool_;
  };
  const auto change = [&] {
    while (!fits())
      wait_until(
          fits, [count] { return std::to_string(count) + " registers, which no warpgroup gives back"; },
          site);
    group.register_count = count;
  };
  together(
      group, {site, {count}}, [count] { return "setmaxnreg " + std::to_string(count); }, change);
}

void init_barrier(std::uintptr_t at, unsigned count, const Site& site) {
  hopper().init_barrier(at, count, site);
}

void fence_barrier_init() {
  hopper().fence_barriers();
}

void fence_proxy_async() {
  hopper().fence_barriers();
  Clock& clock = clock_of(thread_number());
  crew().fences[thread_number()].push_back(clock.now++);
}

void arrive(std::uintptr_t at, unsigned expected_bytes, const Site& site) {
  hopper().arrive(at, expected_bytes, site);
}

bool try_wait(std::uintptr_t at, unsigned parity, const Site& site) {
  Hopper& all = hopper();
  if (all.try_wait(at, parity, site)) return true;
  wait_a_while([&all, at, parity] { return all.parity_ended(at, parity); },
               [&all, at, parity] { return all.state_of(at, parity); }, site);
  return all.try_wait(at, parity, site);
}

void wait(std::uintptr_t at, unsigned parity, const Site& site) {
  Hopper& all = hopper();
  while (!all.try_wait(at, parity, site))
    wait_until([&all, at, parity] { return all.parity_ended(at, parity); },
               [&all, at, parity] { return all.state_of(at, parity); }, site);
}

void change_registers(unsigned count, bool more, const Site& site) {
  hopper().change_registers(count, more, site);
}

}  // namespace grapnel::cuda_host

bool grapnel::device::has_hopper() {
  return cuda_host::WithHopper::on();
}
