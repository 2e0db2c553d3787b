#include "cuda_host/block.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace grapnel::cuda_host {
namespace {

constexpr std::size_t kWord = Multiprocessor::kWord;

}  // namespace

void Multiprocessor::forget() {
  std::fill(copied_to.begin(), copied_to.end(), 0);
  shadow.forget();
}

Allocation Multiprocessor::find(std::uintptr_t at, std::size_t bytes) {
  for (const Allocation& one : seen_)
    if (one.holds(at, bytes)) return one;
  const Allocation found = allocation_at(at);
  if (!found.holds(at, bytes)) return {};
  seen_[next_++ % seen_.size()] = found;
  return found;
}

Block::Block(const Launch& launch, unsigned number, Multiprocessor& on)
    : launch_(launch),
      number_(number),
      index_{number % launch.grid.x, number / launch.grid.x % launch.grid.y,
             number / launch.grid.x / launch.grid.y},
      on_(on),
      given_((launch.block.count() + kWarpSize - 1) / kWarpSize) {
  const Dim size = launch.block;
  crew_.fences.resize(size.count());
  for (unsigned t = 0; t < size.count(); ++t) {
    const Dim place{t % size.x, t / size.x % size.y, t / size.x / size.y};
    threads_.push_back(std::make_unique<Thread>(t, place, [this] { run_thread(); }));
  }
}

void Block::run() {
  for (;;) {
    const Thread* alive = nullptr;
    bool ran = false;
    for (const auto& thread : threads_) {
      if (thread->fiber.ended()) continue;
      alive = thread.get();
      if (thread->wait != Thread::Wait::no) continue;
      ran = true;
      current_ = thread.get();
      const bool asks_again = std::exchange(thread->asks, false);
      thread->fiber.resume();
      if (!asks_again || !thread->asks) ++progress_;
    }
    if (!alive) {
      if (part_) part_->block_ends();
      return;
    }
    if (part_ && part_->turn()) ++progress_;
    const bool warps_go = let_warps_go(), barriers_go = let_barriers_go(), others_go = let_others_go();
    if (!ran && !warps_go && !barriers_go && !others_go) throw Fault(name(*alive) + ": " + nobody());
  }
}

void Block::count(Traffic& traffic) const {
  traffic += direct_;
  traffic += requests_.count();
}

void Block::fault(const std::string& what, const Site& site) {
  current_->where = site;
  throw Fault(name(*current_) + ": " + what);
}

void Block::wait(Thread::Wait what, const Site& site) {
  Thread& me = *current_;
  me.wait = what;
  me.where = site;
  me.fiber.pause();
}

void* Block::reach(Space space, std::uintptr_t at, std::size_t bytes, std::size_t alignment, Access access,
                   const Site& site) {
  if (space == Space::shared && part_) {
    const std::string against = part_->refuses(at, bytes);
    if (!against.empty()) refuse(space, bytes, access, against, site);
  }
  void* const memory = reach_as(current_->number, current_->clock, space, at, bytes, alignment, access, site);
  if (CountTraffic::on()) {
    const unsigned visit = current_->visits[line_of(site)]++;
    requests_.add(current_->number / kWarpSize, site, visit, space, at, bytes);
  }
  return memory;
}

void* Block::reach_as(std::uint32_t member, const Clock& clock, Space space, std::uintptr_t at,
                      std::size_t bytes, std::size_t alignment, Access access, const Site& site) {
  const auto wrong = [&](const std::string& what) { refuse(space, bytes, access, what, site); };
  const bool global = space == Space::global;
  const Allocation place = global ? on_.find(at, bytes) : Allocation{0, &on_.shadow};
  if (!place.holds(at, bytes)) wrong("out of bounds");
  if (global && !current_->after_previous)
    wrong("without wait_for_previous: the launch before may still write or read there");
  if (at % alignment) wrong("not aligned to " + std::to_string(alignment));
  if (!global && copies_under_way_ > 0 &&
      std::any_of(&on_.copied_to[at / kWord], &on_.copied_to[(at + bytes - 1) / kWord] + 1,
                  [](unsigned copies) { return copies > 0; }))
    wrong("a copy that its thread has not waited for is still to write there");
  const Actor actor{launch_.number, number_, member, &clock, &crew_, !global || launch_.alone, !global};
  const std::string against = place.shadow->access(actor, access, at - place.first, bytes);
  if (!against.empty()) wrong(against);
  return global ? reinterpret_cast<void*>(at) : &on_.memory[at];
}

void Block::start(const Copy& copy) {
  if (copy.shared + copy.bytes > on_.memory.size())
    fault("an asynchronous copy to shared memory: out of bounds", copy.site);
  if (copy.shared % copy.bytes)
    fault("an asynchronous copy to shared memory: not aligned to " + std::to_string(copy.bytes), copy.site);
  for (std::size_t i = 0; i < copy.bytes / kWord; ++i) ++on_.copied_to[copy.shared / kWord + i];
  ++copies_under_way_;
  current_->copies.push_back(copy);
}

void Block::land(const std::vector<Copy>& group) {
  for (const Copy& copy : group) {
    for (std::size_t i = 0; i < copy.bytes / kWord; ++i) --on_.copied_to[copy.shared / kWord + i];
    --copies_under_way_;
    void* to = reach(Space::shared, copy.shared, copy.bytes, copy.bytes, Access::write, copy.site);
    if (copy.zeros) {
      std::memset(to, 0, copy.bytes);
    } else {
      std::memcpy(to, reinterpret_cast<const void*>(copy.global), copy.bytes);
    }
  }
}

void Block::run_thread() {
  try {
    launch_.body();
    if (!current_->after_previous)
      fault("the thread ends without wait_for_previous: who waits for this launch needs those before it, too",
            current_->where);
    for (const auto& group : current_->groups) refuse_to_end(group);
    refuse_to_end(current_->copies);
    if (part_) part_->thread_ends();
  } catch (const Fault&) {
    throw;
  } catch (const std::exception& other) {
    throw Fault(name(*current_) + ": " + other.what());
  }
}

void Block::refuse(Space space, std::size_t bytes, Access access, const std::string& what, const Site& site) {
  fault(std::string(access == Access::read    ? "read of "
                    : access == Access::write ? "write to "
                                              : "atomic on ") +
            (space == Space::global ? "global memory" : "shared memory") + ", " + std::to_string(bytes) +
            " bytes: " + what,
        site);
}

void Block::refuse_to_end(const std::vector<Copy>& copies) {
  if (!copies.empty()) fault("the thread ends before this copy of its", copies.front().site);
}

void Block::meet(const std::vector<Thread*>& together) {
  Meeting meeting(threads_.size());
  for (Thread* thread : together) meeting.bring(thread->number, thread->clock);
  const auto whole = meeting.whole();
  for (Thread* thread : together) {
    thread->clock.known = whole;
    thread->wait = Thread::Wait::no;
  }
}

bool Block::let_warps_go() {
  bool any = false;
  for (const auto& thread : threads_)
    if (thread->wait == Thread::Wait::warp) any |= let_lanes_go(*thread);
  return any;
}

bool Block::let_lanes_go(Thread& one) {
  const unsigned first = one.number / kWarpSize * kWarpSize;
  if (!(one.mask >> (one.number - first) & 1)) throw Fault(name(one) + ": its own lane is not in the mask");
  std::vector<Thread*> lanes;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (!(one.mask >> lane & 1)) continue;
    if (first + lane >= threads_.size() || threads_[first + lane]->fiber.ended())
      throw Fault(name(one) + ": waits for lane " + std::to_string(lane) + ", which has ended or never was");
    lanes.push_back(threads_[first + lane].get());
    const Thread& other = *lanes.back();
    if (other.wait != Thread::Wait::warp) return false;
    if (!same_line(other.where, one.where) || other.mask != one.mask || other.given_bytes != one.given_bytes)
      throw Fault(name(one) + ": lane " + std::to_string(lane) + " came to " + place_of(other.where) +
                  " instead, or with another mask");
  }
  for (const Thread* lane : lanes) given_[first / kWarpSize][lane->number - first] = lane->gives;
  meet(lanes);
  return true;
}

bool Block::let_barriers_go() {
  std::vector<Thread*> at_block;
  std::map<unsigned, std::vector<Thread*>> at_named;
  const Thread* ended = nullptr;
  for (const auto& thread : threads_) {
    if (thread->fiber.ended()) ended = thread.get();
    if (thread->wait == Thread::Wait::block) at_block.push_back(thread.get());
    if (thread->wait == Thread::Wait::named) at_named[thread->barrier].push_back(thread.get());
  }
  bool any = false;
  for (const auto& [barrier, there] : at_named) {
    for (const Thread* thread : there)
      if (thread->count != there.front()->count)
        throw Fault(name(*thread) + ": barrier " + std::to_string(barrier) + " has two counts");
    if (there.size() > there.front()->count)
      throw Fault(name(*there.front()) + ": more threads than it counts are at barrier " +
                  std::to_string(barrier));
    if (there.size() < there.front()->count) continue;
    meet(there);
    any = true;
  }
  if (at_block.empty()) return any;
  if (ended)
    throw Fault(name(*at_block.front()) + ": waits at a barrier for thread " + std::to_string(ended->number) +
                ", which has ended");
  if (at_block.size() < threads_.size()) return any;
  for (const Thread* thread : at_block)
    if (!same_line(thread->where, at_block.front()->where))
      throw Fault(name(*at_block.front()) + ": the barrier diverges, thread " +
                  std::to_string(thread->number) + " waits at " + place_of(thread->where));
  meet(at_block);
  return true;
}

bool Block::let_others_go() {
  bool any = false;
  for (const auto& thread : threads_) {
    const bool asks = thread->wait == Thread::Wait::a_while;
    if (!asks && thread->wait != Thread::Wait::condition) continue;
    if (!thread->ready() && !(asks && thread->seen != progress_)) continue;
    thread->wait = Thread::Wait::no;
    any = true;
  }
  return any;
}

std::string Block::nobody() const {
  std::map<std::string, std::vector<unsigned>> waiting;
  for (const auto& thread : threads_)
    if (thread->wait == Thread::Wait::condition || thread->wait == Thread::Wait::a_while)
      waiting[thread->waits_for()].push_back(thread->number);
  std::string result = "nobody can go on";
  for (const auto& [what, by] : waiting) {
    result += "; thread " + std::to_string(by.front());
    if (by.size() > 1) result += " and " + std::to_string(by.size() - 1) + " more";
    result += " at " + place_of(threads_[by.front()]->where) + " for " + what;
  }
  return result;
}

std::string Block::name(const Thread& thread) const {
  return std::string(launch_.kernel) + ", block " + std::to_string(number_) + ", thread " +
         std::to_string(thread.number) + ", " + place_of(thread.where);
}

}  // namespace grapnel::cuda_host
