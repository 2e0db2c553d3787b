#include "cuda_host/shadow.h"

#include <algorithm>
#include <bit>
#include <thread>

namespace grapnel::cuda_host {
namespace {

/// Keeps others away from a page for the few steps an access takes.
class Hold {
 public:
  explicit Hold(std::atomic_flag* busy) : busy_(busy) {
    if (!busy_) return;
    for (int tries = 0; busy_->test_and_set(std::memory_order_acquire); ++tries)
      if (tries > 100) std::this_thread::yield();
  }
  ~Hold() {
    if (busy_) busy_->clear(std::memory_order_release);
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  std::atomic_flag* busy_;
};

}  // namespace

std::string Crew::name(std::uint32_t member) const {
  if (is_thread(member)) return "thread " + std::to_string(member);
  const std::size_t other = member - fences.size();
  return other < others.size() ? others[other] : "something asynchronous";
}

Shadow::~Shadow() {
  for (Slot& slot : pages_) delete slot.page.load(std::memory_order_relaxed);
}

Shadow::Page& Shadow::page_of(Slot& slot, unsigned cell_shift) {
  Page* const page = slot.page.load(std::memory_order_relaxed);
  if (page && page->cell_shift <= cell_shift) return *page;
  auto made = std::make_unique<Page>(cell_shift, slot.written);
  if (page) {
    for (std::size_t i = 0; i < made->cells.size(); ++i)
      made->cells[i] = page->cells[i >> (page->cell_shift - cell_shift)];
    made->coarser.reset(page);
  }
  slot.page.store(made.get(), std::memory_order_release);
  return *made.release();
}

void Shadow::set_written(std::size_t at, std::size_t bytes) {
  for (const std::size_t end = at + bytes; at < end;) {
    Slot& slot = pages_[at / kPage];
    const std::size_t in_page = at % kPage, part = std::min(kPage - in_page, end - at);
    if (in_page == 0 && at + part == std::min(bytes_, at + kPage)) {
      delete slot.page.exchange(nullptr, std::memory_order_relaxed);
      slot.written = true;
    } else {
      Page& page = page_of(slot, static_cast<unsigned>(std::countr_zero(in_page | part | kTogether)));
      for (std::size_t i = in_page >> page.cell_shift; i < (in_page + part) >> page.cell_shift; ++i) {
        page.cells[i] = {};
        page.cells[i].written = true;
      }
    }
    at += part;
  }
}

void Shadow::forget() {
  for (Slot& slot : pages_) {
    slot.written = false;
    if (Page* const page = slot.page.load(std::memory_order_relaxed))
      for (Cell& cell : page->cells) {
        std::vector<Reads> room = std::move(cell.more_reads);
        room.clear();
        cell = {};
        cell.more_reads = std::move(room);
      }
  }
}

bool Shadow::ordered(const Actor& actor, const Touch& before) {
  if (before.launch != actor.launch) return true;  // also if there was none: launches follow one another
  if (before.block != actor.block) return false;
  // What runs asynchronously is not ordered with itself.
  return (before.member == actor.member && actor.crew->is_thread(actor.member)) ||
         actor.clock->knows(before.member, before.time);
}

bool Shadow::ordered(const Actor& actor, const Reads& reads, std::uint32_t* other) {
  for (std::uint32_t lanes = reads.lanes; lanes != 0; lanes &= lanes - 1) {
    *other = reads.warp * 32 + static_cast<std::uint32_t>(std::countr_zero(lanes));
    if (!ordered(actor, Touch{actor.launch, actor.block, *other, reads.time})) return false;
  }
  return true;
}

bool Shadow::fenced(const Actor& actor, const Touch& before) {
  if (before.launch != actor.launch || actor.crew->is_thread(actor.member) ||
      !actor.crew->is_thread(before.member))
    return true;
  const auto& fences = actor.crew->fences[before.member];
  const auto first = std::lower_bound(fences.begin(), fences.end(), before.time);
  return actor.fences_help && first != fences.end() && actor.clock->knows(before.member, *first);
}

std::string Shadow::race(const Actor& actor, const char* with, std::uint32_t block, std::uint32_t member) {
  return std::string("races with a ") + with + " by " + actor.crew->name(member) +
         (block == actor.block ? "" : " of block " + std::to_string(block));
}

bool Shadow::allowed(const Actor& actor, Access access, const Cell& cell, std::string* why) {
  const auto no = [why](std::string what) {
    *why = std::move(what);
    return false;
  };
  if (access != Access::write && !cell.written) return no("reads what was never written");
  const Touch& write = cell.write;
  if (write.launch == actor.launch) {
    if (!(access == Access::atomic && cell.by_atomic) && !ordered(actor, write))
      return no(race(actor, "write", write.block, write.member));
    if (!fenced(actor, write))
      return no(actor.crew->name(write.member) + " stored there, and " +
                (actor.fences_help ? "called no fence_proxy_async since"
                                   : "tensor maps do not see stores of their own launch"));
  }
  if (access == Access::read || cell.read_launch != actor.launch) return true;
  if (cell.second_launch == actor.launch && cell.read_block == actor.block)
    return no(race(actor, "read", cell.second_block, cell.second_member));
  std::uint32_t other = cell.reads.warp * 32 + static_cast<std::uint32_t>(std::countr_zero(cell.reads.lanes));
  if (cell.read_block != actor.block || !ordered(actor, cell.reads, &other))
    return no(race(actor, "read", cell.read_block, other));
  for (const Reads& reads : cell.more_reads)
    if (!ordered(actor, reads, &other)) return no(race(actor, "read", cell.read_block, other));
  return true;
}

bool Shadow::read_by_two_blocks(Cell& cell, std::uint32_t launch) {
  return std::atomic_ref(cell.second_launch).load(std::memory_order_relaxed) == launch;
}

void Shadow::note_read(const Actor& actor, Cell& cell) {
  const Reads mine{actor.member / 32, actor.clock->now, 1u << actor.member % 32};
  if (cell.read_launch != actor.launch) {
    cell.read_launch = actor.launch;
    cell.read_block = actor.block;
    cell.reads = mine;
    cell.more_reads.clear();
    return;
  }
  if (read_by_two_blocks(cell, actor.launch)) return;
  if (cell.read_block != actor.block) {
    cell.second_block = actor.block;
    cell.second_member = actor.member;
    std::atomic_ref(cell.second_launch).store(actor.launch, std::memory_order_relaxed);
    return;
  }
  const auto joins = [&](Reads& reads) {
    if (reads.warp != mine.warp || reads.time != mine.time) return false;
    reads.lanes |= mine.lanes;
    return true;
  };
  if (joins(cell.reads)) return;
  for (Reads& reads : cell.more_reads)
    if (joins(reads)) return;
  // Whoever comes after this read comes after those that it comes after.
  std::uint32_t other;
  std::erase_if(cell.more_reads, [&](const Reads& reads) { return ordered(actor, reads, &other); });
  if (ordered(actor, cell.reads, &other))
    cell.reads = mine;
  else
    cell.more_reads.push_back(mine);
}

void Shadow::note_write(const Actor& actor, Access access, Cell& cell) {
  cell.written = true;
  cell.by_atomic = access == Access::atomic;
  cell.write = {actor.launch, actor.block, actor.member, actor.clock->now};
  cell.read_launch = 0;
  cell.more_reads.clear();
}

std::string Shadow::access(const Actor& actor, Access access, std::size_t at, std::size_t bytes) {
  for (const std::size_t end = at + bytes; at < end;) {
    Slot& slot = pages_[at / kPage];
    const std::size_t in_page = at % kPage, part = std::min(kPage - in_page, end - at);
    const auto shift = static_cast<unsigned>(std::countr_zero(in_page | part | kTogether));
    at += part;
    const auto all_cells = [&](Page& page, const auto& f) {
      for (std::size_t i = in_page >> page.cell_shift; i < (in_page + part) >> page.cell_shift; ++i)
        if (!f(page.cells[i])) return false;
      return true;
    };
    // What all blocks read, such as weights, they read side by side.
    if (Page* const page = slot.page.load(std::memory_order_acquire);
        access == Access::read && !actor.alone && page && page->cell_shift <= shift &&
        all_cells(*page, [&](Cell& cell) { return read_by_two_blocks(cell, actor.launch); }))
      continue;
    const Hold hold(actor.alone ? nullptr : &slot.busy);
    std::string against;
    const bool fine = all_cells(page_of(slot, shift), [&](Cell& cell) {
      if (!allowed(actor, access, cell, &against)) return false;
      if (access == Access::read)
        note_read(actor, cell);
      else
        note_write(actor, access, cell);
      return true;
    });
    if (!fine) return against;
  }
  return {};
}

}  // namespace grapnel::cuda_host
