// The memory of a graph (accelerator.h): nobody else gets it while the graph lives.
//
// The rehearsal takes blocks from the device and notes who asked for what; the capture gets the same blocks
// in the same order, and takes nothing from the device. A block that somebody still holds when the graph goes
// is given back when they let go.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "grapnel/kernels/accelerator.h"

namespace grapnel::kernels {

class GraphMemory {
 public:
  /// Where memory comes from and goes to: the device itself, as in Accelerator.
  using Take = void* (*)(int device, std::size_t bytes);
  using Give = void (*)(int device, void* data, std::size_t bytes) noexcept;

  GraphMemory(int device, Take from, Give to) : device_(device), take_(from), give_(to) {}
  GraphMemory(const GraphMemory&) = delete;
  GraphMemory& operator=(const GraphMemory&) = delete;

  ~GraphMemory() {
    leave();
    const std::lock_guard lock(mutex());
    for (void* data : mine_) {
      Block& block = blocks()[data];
      block.owner = nullptr;
      if (!block.held) give_up(data, block);
    }
  }

  /// From now on this thread's memory comes from here.
  void enter(GraphPhase phase) {
    phase_ = phase;
    taken_ = 0;
    current() = this;
  }
  void leave() {
    if (current() == this) current() = nullptr;
  }

  /// The one this thread is in, or null.
  static GraphMemory*& current() {
    thread_local GraphMemory* memory = nullptr;
    return memory;
  }
  static bool capturing() { return current() && current()->phase_ == GraphPhase::capture; }
  /// Throws DeviceFault if this thread captures.
  static void refuse(const char* what) {
    if (capturing()) throw DeviceFault(std::string(what) + " cannot be captured in a graph");
  }

  /// Null if the device has no more memory. Throws DeviceFault for a capture that asks for other memory than
  /// the rehearsal.
  void* take(int device, std::size_t bytes) {
    if (device != device_) throw DeviceFault("a graph of one device took memory of another");
    const std::lock_guard lock(mutex());
    void* data = nullptr;
    if (phase_ == GraphPhase::capture) {
      const auto& [size, block] = taken_ < order_.size() ? order_[taken_] : std::pair<std::size_t, void*>{};
      if (!block || size != bytes || blocks()[block].held)
        throw DeviceFault("the work that is captured takes other memory than when it ran before");
      data = block;
      ++taken_;
    } else {
      data = smallest_free(bytes);
      if (!data) data = take_new(bytes);
      if (!data) return nullptr;
      order_.emplace_back(bytes, data);
    }
    blocks()[data].held = true;
    return data;
  }

  /// Whether `data` was a graph's; if so, it is back.
  static bool take_back(void* data) noexcept {
    if (block_count().load(std::memory_order_acquire) == 0) return false;
    const std::lock_guard lock(mutex());
    const auto found = blocks().find(data);
    if (found == blocks().end()) return false;
    found->second.held = false;
    if (!found->second.owner) give_up(data, found->second);
    return true;
  }

  /// Whether somebody still holds any of it.
  bool held() const {
    const std::lock_guard lock(mutex());
    for (void* data : mine_)
      if (blocks()[data].held) return true;
    return false;
  }

 private:
  struct Block {
    GraphMemory* owner;  // null when the graph is gone
    int device;
    std::size_t bytes;
    Give give;
    bool held;
  };

  // Of all graphs; never destroyed, for memory may come back at the very end of the program.
  static std::unordered_map<void*, Block>& blocks() {
    static auto& all = *new std::unordered_map<void*, Block>;
    return all;
  }
  static std::mutex& mutex() {
    static auto& one = *new std::mutex;
    return one;
  }
  static std::atomic<std::size_t>& block_count() {
    static std::atomic<std::size_t> count{0};
    return count;
  }

  static void give_up(void* data, const Block& block) noexcept {
    const Block gone = block;
    blocks().erase(data);
    --block_count();
    gone.give(gone.device, data, gone.bytes);
  }

  void* smallest_free(std::size_t bytes) const {
    void* best = nullptr;
    std::size_t size = 0;
    for (void* data : mine_) {
      const Block& block = blocks()[data];
      if (block.held || block.bytes < bytes || (best && block.bytes >= size)) continue;
      best = data;
      size = block.bytes;
    }
    return best;
  }

  void* take_new(std::size_t bytes) {
    void* data = take_(device_, bytes);
    if (!data) return nullptr;
    blocks().emplace(data, Block{this, device_, bytes, give_, false});
    ++block_count();
    mine_.push_back(data);
    return data;
  }

  const int device_;
  const Take take_;
  const Give give_;
  GraphPhase phase_ = GraphPhase::rehearsal;
  std::vector<void*> mine_;
  std::vector<std::pair<std::size_t, void*>> order_;  // what was asked for, and served
  std::size_t taken_ = 0;                             // of the order, by the capture
};

}  // namespace grapnel::kernels
