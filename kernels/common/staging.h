// Copies between the host and a device by blocks of pinned memory, which the device reads and writes by
// itself: while one block is on its way, the host fills or empties the next.
//
// Each block has an event, which says when the device has done with it. Blocks are taken when they are first
// needed, and stay; where there is no pinned memory, copies go straight to and from the place given. Any
// number of host threads may copy at once.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

#include "grapnel/kernels/accelerator.h"

namespace grapnel::kernels {

class Staging {
 public:
  struct Block {
    void* data = nullptr;
    void* event = nullptr;
    bool busy = false;  // until the event
  };

  /// What it asks of a device. What is started runs in the order it was started in. All but `make` throw
  /// DeviceFault.
  struct Calls {
    /// Its data are null if there is no pinned memory.
    Block (*make)(int device, std::size_t bytes);
    /// Of memory that is not pinned, it returns when that has been read.
    void (*start_to_device)(int device, void* to, const void* from, std::size_t bytes);
    void (*start_to_host)(int device, void* to, const void* from, std::size_t bytes);
    /// The event comes when everything started so far has ended.
    void (*record)(int device, void* event);
    /// For the event, or, if it is null, for everything started so far.
    void (*wait)(int device, void* event);
  };

  struct Sizes {
    std::size_t small, large;  // bytes of a block, for copies of at most `small`, and for others
    std::size_t blocks;        // of each size, at most
  };

  Staging(int device, const Calls& calls, const Sizes& sizes)
      : small_(device, calls, sizes.small, sizes.blocks), large_(device, calls, sizes.large, sizes.blocks) {}

  /// Returns when `from` has been read.
  void to_device(void* to, const void* from, std::size_t bytes) {
    Ring& ring = ring_for(bytes);
    for (std::size_t at = 0; at < bytes; at += ring.bytes) {
      void* const target = static_cast<std::byte*>(to) + at;
      const void* const source = static_cast<const std::byte*>(from) + at;
      Block* const block = ring.take(true);
      if (!block) return ring.calls.start_to_device(ring.device, target, source, bytes - at);
      const std::size_t piece = std::min(ring.bytes, bytes - at);
      std::memcpy(block->data, source, piece);
      ring.start(block, ring.calls.start_to_device, target, block->data, piece);
      ring.give(block);
    }
  }

  /// Returns when the data are there and everything that was started before has ended, also for 0 bytes.
  void to_host(void* to, const void* from, std::size_t bytes) {
    Ring& ring = ring_for(bytes);
    std::vector<Block*> under_way;  // the first holds what belongs at `arrived`
    under_way.reserve(ring.blocks);
    std::size_t started = 0, arrived = 0;
    try {
      while (arrived < bytes) {
        // Who holds blocks does not wait for more: others may do so, too.
        if (Block* const block = started < bytes ? ring.take(under_way.empty()) : nullptr) {
          const std::size_t piece = std::min(ring.bytes, bytes - started);
          ring.start(block, ring.calls.start_to_host, block->data,
                     static_cast<const std::byte*>(from) + started, piece);
          under_way.push_back(block);
          started += piece;
        } else if (!under_way.empty()) {
          Block* const first = under_way.front();
          under_way.erase(under_way.begin());
          ring.wait_for(first);
          const std::size_t piece = std::min(ring.bytes, bytes - arrived);
          std::memcpy(static_cast<std::byte*>(to) + arrived, first->data, piece);
          ring.give(first);
          arrived += piece;
        } else {
          ring.calls.start_to_host(ring.device, static_cast<std::byte*>(to) + arrived,
                                   static_cast<const std::byte*>(from) + arrived, bytes - arrived);
          return ring.calls.wait(ring.device, nullptr);
        }
      }
    } catch (...) {
      for (Block* block : under_way) ring.give(block);
      throw;
    }
    if (bytes == 0) ring.calls.wait(ring.device, nullptr);
  }

 private:
  /// Blocks of one size.
  struct Ring {
    Ring(int on, const Calls& by, std::size_t size, std::size_t count)
        : device(on), calls(by), bytes(size), blocks(count), most_(count) {}

    /// One that the device has done with. Null if there is no pinned memory, and where others have all blocks
    /// and this thread does not want to wait for them.
    Block* take(bool waiting) {
      std::unique_lock lock(mutex_);
      while (free_.empty() || (free_.front()->busy && made_ < most_)) {
        if (made_ < most_) {
          ++made_;
          lock.unlock();
          const Block block = calls.make(device, bytes);
          lock.lock();
          if (block.data) return &all_.emplace_back(block);
          most_ = --made_;
          freed_.notify_all();
        } else if (waiting && made_ > 0) {
          freed_.wait(lock);
        } else {
          return nullptr;
        }
      }
      Block* const block = free_.front();
      free_.pop_front();
      lock.unlock();
      wait_for(block);
      return block;
    }

    /// Those that the device has done with are taken first, then those that have been busy longest.
    void give(Block* block) {
      const std::lock_guard lock(mutex_);
      if (block->busy)
        free_.push_back(block);
      else
        free_.push_front(block);
      freed_.notify_one();
    }

    /// Starts a copy from or to a block that the caller has taken; if it throws, the block is given back.
    void start(Block* block, void (*copy)(int, void*, const void*, std::size_t), void* to, const void* from,
               std::size_t count) {
      try {
        copy(device, to, from, count);
        calls.record(device, block->event);
        block->busy = true;
      } catch (...) {
        recover(block);
        throw;
      }
    }

    /// Until the device has done with it; if that throws, the block is given back.
    void wait_for(Block* block) {
      if (!block->busy) return;
      try {
        calls.wait(device, block->event);
        block->busy = false;
      } catch (...) {
        recover(block);
        throw;
      }
    }

    const int device;
    const Calls calls;
    const std::size_t bytes, blocks;

   private:
    /// After an error its event says nothing. What cannot be waited for, the device may still write to: it is
    /// never used again.
    void recover(Block* block) {
      try {
        calls.wait(device, nullptr);
        block->busy = false;
        give(block);
      } catch (const DeviceFault&) {
        const std::lock_guard lock(mutex_);
        --most_;
        --made_;
        freed_.notify_all();
      }
    }

    std::mutex mutex_;
    std::condition_variable freed_;
    std::deque<Block> all_;
    std::deque<Block*> free_;  // the next to be taken first
    std::size_t made_ = 0;     // also those being made
    std::size_t most_;
  };

  Ring& ring_for(std::size_t bytes) { return bytes <= small_.bytes ? small_ : large_; }

  Ring small_, large_;
};

}  // namespace grapnel::kernels
