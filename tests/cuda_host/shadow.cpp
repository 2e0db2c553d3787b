#include "cuda_host/shadow.h"

#include <algorithm>

namespace grapnel::cuda_host {

std::string Crew::name(std::uint32_t member) const {
  if (is_thread(member)) return "thread " + std::to_string(member);
  const std::size_t other = member - fences.size();
  return other < others.size() ? others[other] : "something asynchronous";
}

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
  // What runs asynchronously is not ordered with itself.
  return (before.member == actor.member && actor.crew->is_thread(actor.member)) ||
         actor.clock->knows(before.member, before.time);
}

bool Shadow::fenced(const Actor& actor, const Touch& before) {
  if (before.launch != actor.launch || actor.crew->is_thread(actor.member) ||
      !actor.crew->is_thread(before.member))
    return true;
  const auto& fences = actor.crew->fences[before.member];
  const auto first = std::lower_bound(fences.begin(), fences.end(), before.time);
  return actor.fences_help && first != fences.end() && actor.clock->knows(before.member, *first);
}

std::string Shadow::race(const Actor& actor, const char* with, const Touch& before) {
  const bool here = before.block == actor.block;
  return std::string("races with a ") + with + " by " + actor.crew->name(before.member) +
         (here ? "" : " of block " + std::to_string(before.block));
}

std::string Shadow::access(const Actor& actor, Access access, std::size_t at, std::size_t bytes) {
  const Touch now{actor.launch, actor.block, actor.member, actor.clock->now};
  for (std::size_t i = at; i < at + bytes; ++i) {
    Byte& here = byte(i);
    if (access != Access::write && !here.written) return "reads what was never written";
    if (!(access == Access::atomic && here.by_atomic) && !ordered(actor, here.write))
      return race(actor, "write", here.write);
    if (!fenced(actor, here.write))
      return actor.crew->name(here.write.member) + " stored there, and " +
             (actor.fences_help ? "called no fence_proxy_async since"
                                : "tensor maps do not see stores of their own launch");
    if (access == Access::read) {
      if (ordered(actor, here.read) || here.read.same_member(now)) {
        here.read = now;
      } else {
        std::erase_if(here.other_reads, [&](const Touch& read) { return read.same_member(now); });
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
