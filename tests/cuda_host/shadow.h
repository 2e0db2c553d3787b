// What is known of each byte of a stretch of memory: whether it holds a value, and who touched it last, and
// when.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda_host/clock.h"

namespace grapnel::cuda_host {

/// Who works on the memory of a block: its threads, and what runs beside them in the asynchronous proxy.
struct Crew {
  std::vector<std::vector<std::uint32_t>> fences;  // of each thread: when it called fence_proxy_async
  std::vector<std::string> others;                 // numbered after the threads

  bool is_thread(std::uint32_t member) const { return member < fences.size(); }
  std::string name(std::uint32_t member) const;
};

/// Who makes an access.
struct Actor {
  std::uint64_t launch;
  std::uint32_t block, member;
  const Clock* clock;
  const Crew* crew;
  bool fences_help = true;  // if not, the asynchronous proxy never sees what threads stored
};

enum class Access : std::uint8_t { read, write, atomic };

class Shadow {
 public:
  explicit Shadow(std::size_t bytes) : bytes_(bytes), pages_((bytes + kPage - 1) / kPage) {}

  std::size_t bytes() const { return bytes_; }
  /// Written by somebody whom all accesses to come have waited for.
  void set_written(std::size_t at, std::size_t bytes);
  /// Notes an access. Returns what is wrong with it, or nothing: it reads what was never written, or is not
  /// ordered with an earlier one of another, of which one writes; or threads stored there and the
  /// asynchronous proxy does not see it.
  std::string access(const Actor& actor, Access access, std::size_t at, std::size_t bytes);

 private:
  static constexpr std::size_t kPage = 1024;

  struct Touch {
    std::uint64_t launch = 0;  // 0: none
    std::uint32_t block = 0, member = 0, time = 0;
    bool same_member(const Touch& other) const {
      return launch == other.launch && block == other.block && member == other.member;
    }
  };
  struct Byte {
    bool written = false, by_atomic = false;
    Touch write, read;
    std::vector<Touch> other_reads;  // not ordered with `read`
  };
  using Page = std::array<Byte, kPage>;

  Byte& byte(std::size_t at);
  static bool ordered(const Actor& actor, const Touch& before);
  static bool fenced(const Actor& actor, const Touch& before);
  static std::string race(const Actor& actor, const char* with, const Touch& before);

  std::size_t bytes_;
  std::vector<std::unique_ptr<Page>> pages_;  // made when first touched
};

}  // namespace grapnel::cuda_host
