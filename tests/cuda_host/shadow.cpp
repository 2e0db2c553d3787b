#include "cuda_host/shadow.h"

namespace grapnel::cuda_host {

Shadow::Byte& Shadow::byte(std::size_t at) {
  auto& page = pages_[at / kPage];
  if (!page) page = std::make_unique<Page>();
  return (*page)[at % kPage];
}

void Shadow::set_written(std::size_t at, std::size_t bytes) {
  for (std::size_t i = at; i < at + bytes; ++i) {
    byte(i) = {};
    byte(i).written = true;
  }
}

bool Shadow::ordered(const Actor& actor, const Touch& before) {
  if (before.launch != actor.launch) return true;  // also if there was none: launches follow one another
  if (before.block != actor.block) return false;
  return before.thread == actor.thread || actor.clock->knows(before.thread, before.time);
}

std::string Shadow::race(const Actor& actor, const char* with, const Touch& before) {
  const std::string block = before.block == actor.block ? "" : " of block " + std::to_string(before.block);
  return std::string("races with a ") + with + " by thread " + std::to_string(before.thread) + block;
}

std::string Shadow::access(const Actor& actor, Access access, std::size_t at, std::size_t bytes) {
  const Touch now{actor.launch, actor.block, actor.thread, actor.clock->now};
  for (std::size_t i = at; i < at + bytes; ++i) {
    Byte& here = byte(i);
    if (access != Access::write && !here.written) return "reads what was never written";
    if (!(access == Access::atomic && here.by_atomic) && !ordered(actor, here.write))
      return race(actor, "write", here.write);
    if (access == Access::read) {
      if (ordered(actor, here.read)) {
        here.read = now;
      } else {
        here.other_reads.push_back(now);
      }
      continue;
    }
    if (!ordered(actor, here.read)) return race(actor, "read", here.read);
    for (const Touch& read : here.other_reads)
      if (!ordered(actor, read)) return race(actor, "read", read);
    here = {true, access == Access::atomic, now, {}, {}};
  }
  return {};
}

}  // namespace grapnel::cuda_host
