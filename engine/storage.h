// One owned buffer on one device, shared by all tensors that view it.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "grapnel/engine/device.h"
#include "grapnel/engine/dtype.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/shape.h"

namespace grapnel {

class Recipe;
class Tensor;

/// Bytes plus what must be shared by everybody who looks at them: the version counter that in-place
/// operations advance, and the buffers derived from the content (packed weights, batch norm's scale and
/// shift), which are valid for one version.
class Storage {
 public:
  /// Uninitialised memory, 64-byte aligned (16 up to 64 bytes), from a caching allocator. Throws Error when
  /// memory is exhausted, DeviceError for a device that cannot be used.
  explicit Storage(std::size_t bytes, Device device = {});

  /// Memory owned by somebody else; `release` runs when the last tensor lets go.
  Storage(void* data, std::size_t bytes, std::function<void()> release);

  /// Memory that is taken, and filled by `recipe` (recipe.h), when somebody first asks for it.
  Storage(const Shape& shape, DType type, Device device, std::shared_ptr<const Recipe> recipe);

  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  /// An address on device(). For reading and writing: what is going to be computed from the content is
  /// computed first.
  void* data() const {
    if (readers_.load(std::memory_order_relaxed) != 0) run_readers();
    return read();
  }
  /// For reading only.
  void* read() const {
    if (waiting_.load(std::memory_order_acquire)) fill();
    return data_;
  }
  /// The content is computed, if it is still to come, in the form in which it is kept (ops/operands.h).
  void compute() const;
  /// The same for a convolution still to come, with a bias at most, and the mean and biased variance of its
  /// channels, if the device's kernels leave them; otherwise false, and nothing is done.
  bool compute_with_moments(const Tensor& mean, const Tensor& variance) const;
  /// How the content, or what is read of it, is going to be computed; null if it is there.
  std::shared_ptr<const Recipe> recipe() const;
  /// The same; null also if what it makes has another shape.
  std::shared_ptr<const Recipe> recipe_of(const Shape& shape) const;
  /// Calls use(values) if the content is to come as a copy of values that are there, and they stay what they
  /// are until it returns; otherwise false, and nothing is done.
  bool with_source(const std::function<void(const Tensor& values)>& use) const;
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  /// Says that the content has changed: what was derived from it is dropped.
  void bump_version() {
    version_.fetch_add(1, std::memory_order_relaxed);
    if (has_derived_.load(std::memory_order_relaxed)) drop_derived();
  }

  /// Another number for every storage there ever was, from 1 on: addresses come again, these do not.
  std::uint64_t id() const;

  /// What was made along with this content, and is kept under `key` (any bytes) until the content changes.
  void keep(std::string_view key, std::shared_ptr<Storage> made) const;
  /// Null: nothing.
  std::shared_ptr<Storage> kept(std::string_view key) const;

  /// The `bytes` bytes derived from this content under `key` (any bytes), written by `fill`. They are kept
  /// from the second time on: what is used once for each content, as packed weights are while a network
  /// trains, takes no memory in between. What depends on other storages too has their ids in the key, and
  /// the sum of their versions as `others`. At most 32 at a time: the oldest goes. Safe from several threads.
  std::shared_ptr<Storage> derived(std::string_view key, std::size_t bytes,
                                   const std::function<void(void* buffer)>& fill, std::uint64_t others = 0);

 private:
  struct Derived {
    PoolString key;
    std::uint64_t version, others;
    std::shared_ptr<Storage> buffer;
  };

  friend class Recipe;

  /// Content to come.
  struct Plan : Pooled {
    std::shared_ptr<const Recipe> recipe;
    Shape shape;
    DType type;
  };

  static constexpr std::size_t kInline = 64;
  static constexpr std::size_t kMostDerived = 32;

  void take() const;
  void drop_derived();
  void fill() const;
  void make_elements() const;
  void run_readers() const;

  alignas(16) mutable std::byte inline_[kInline];  // the content itself, if it is that small
  mutable void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
  std::function<void()> release_;
  std::atomic<std::uint64_t> version_{0};
  mutable std::atomic<std::uint64_t> id_{0};  // 0: nobody has asked
  mutable std::mutex derived_mutex_;
  mutable PoolVector<Derived> derived_;
  mutable std::atomic<bool> has_derived_{false};
  mutable std::atomic<bool> waiting_{false};  // the content is to come
  mutable std::atomic<int> readers_{0};       // steps of recipes that will read the content
  mutable std::mutex plan_mutex_;
  mutable std::unique_ptr<Plan> plan_;
};

/// What all storages of more than 64 bytes take together, in bytes.
struct MemoryUse {
  std::size_t in_use = 0, peak_in_use = 0;
  std::size_t cached = 0;             ///< freed by storages and kept for the next ones
  std::uint64_t system_requests = 0;  ///< blocks that came from the system and not from the cache
};
MemoryUse memory_use();

/// Returns the unused blocks of the allocator, and of this thread's pool, to the system.
void release_cached_memory();

}  // namespace grapnel
