// What is known of each byte of a stretch of memory: whether it holds a value, and who touched it last, and
// when. Bytes that were only ever touched together share one note.
#pragma once

#include <atomic>
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
  std::uint32_t launch, block, member;
  const Clock* clock;
  const Crew* crew;
  bool alone;               // nobody else is at this memory now
  bool fences_help = true;  // if not, the asynchronous proxy never sees what threads stored
};

enum class Access : std::uint8_t { read, write, atomic };

class Shadow {
 public:
  explicit Shadow(std::size_t bytes) : bytes_(bytes), pages_((bytes + kPage - 1) / kPage) {}
  ~Shadow();
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  std::size_t bytes() const { return bytes_; }
  /// Written by somebody whom all accesses to come have waited for.
  void set_written(std::size_t at, std::size_t bytes);
  /// As if it were new.
  void forget();
  /// Notes an access, on any host thread. Returns what is wrong with it, or nothing: it reads what was never
  /// written, or is not ordered with an earlier one of another, of which one writes; or threads stored there
  /// and the asynchronous proxy does not see it.
  std::string access(const Actor& actor, Access access, std::size_t at, std::size_t bytes);

 private:
  static constexpr std::size_t kPage = 1024;
  static constexpr unsigned kTogether = 16;  // bytes of an access at most

  struct Touch {
    std::uint32_t launch = 0;  // 0: none
    std::uint32_t block = 0, member = 0, time = 0;
  };
  /// Members `32 warp` and following of a block have read at the same time of theirs.
  struct Reads {
    std::uint32_t warp = 0, time = 0, lanes = 0;
  };
  struct Cell {
    bool written = false, by_atomic = false;
    Touch write;
    // In the last launch that has read it: who of the first block, and one of another block. Where there are
    // two blocks, whoever writes races, and nobody else needs to be known.
    std::uint32_t read_launch = 0, read_block = 0;
    Reads reads;
    std::vector<Reads> more_reads;
    std::uint32_t second_launch = 0, second_block = 0, second_member = 0;
  };
  struct Page {
    Page(unsigned size, bool written) : cell_shift(size), cells(kPage >> size) {
      if (written)
        for (Cell& cell : cells) cell.written = true;
    }
    unsigned cell_shift;  // log2 of a cell's bytes
    std::vector<Cell> cells;
    std::unique_ptr<Page> coarser;  // which others may still look at
  };
  struct Slot {
    std::atomic<Page*> page = nullptr;  // made when first touched
    std::atomic_flag busy;              // for those who are not alone
    bool written = false;               // all of it, where there is no page
  };

  static Page& page_of(Slot& slot, unsigned cell_shift);
  static bool read_by_two_blocks(Cell& cell, std::uint32_t launch);
  static bool allowed(const Actor& actor, Access access, const Cell& cell, std::string* why);
  static void note_read(const Actor& actor, Cell& cell);
  static void note_write(const Actor& actor, Access access, Cell& cell);
  static bool ordered(const Actor& actor, const Touch& before);
  /// If not, `other` is the first of them that is not.
  static bool ordered(const Actor& actor, const Reads& reads, std::uint32_t* other);
  static bool fenced(const Actor& actor, const Touch& before);
  static std::string race(const Actor& actor, const char* with, std::uint32_t block, std::uint32_t member);

  std::size_t bytes_;
  std::vector<Slot> pages_;
};

}  // namespace grapnel::cuda_host
