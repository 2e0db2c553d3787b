// Lists of callbacks that may change while they run, and the handles that remove from them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace grapnel {

namespace detail {

/// What a handle needs to know of one registered hook.
struct HookEntry {
  std::string name;
  std::atomic<bool> removed{false};
  virtual ~HookEntry() = default;
};

}  // namespace detail

/// Removes one hook. Copies remove the same one. Dropping a handle leaves the hook in place.
class HookHandle {
 public:
  HookHandle() = default;
  explicit HookHandle(std::weak_ptr<detail::HookEntry> entry) : entry_(std::move(entry)) {}

  /// Idempotent; safe after the owner died and inside the hook itself. A hook removed before its turn does
  /// not run.
  void remove() {
    if (auto entry = entry_.lock()) entry->removed = true;
    entry_.reset();
  }

  /// Whether the hook is still registered.
  bool active() const {
    auto entry = entry_.lock();
    return entry && !entry->removed;
  }

 private:
  std::weak_ptr<detail::HookEntry> entry_;
};

/// Removes its hook at the end of the scope.
class ScopedHook {
 public:
  ScopedHook() = default;
  ScopedHook(HookHandle handle) : handle_(std::move(handle)) {}
  ScopedHook(ScopedHook&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  ScopedHook& operator=(ScopedHook&& other) noexcept {
    if (this != &other) {
      handle_.remove();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  ~ScopedHook() { handle_.remove(); }

 private:
  HookHandle handle_;
};

/// An ordered list of hooks of one kind. Running works on a snapshot: what is registered during a run joins
/// the next one; what is removed before its turn does not fire. Safe from several threads.
template <class Function>
class HookList {
 public:
  struct Entry : detail::HookEntry {
    Function function;
  };
  using Snapshot = std::vector<std::shared_ptr<Entry>>;

  HookHandle add(Function function, std::string name = {}, bool prepend = false) {
    auto entry = std::make_shared<Entry>();
    entry->function = std::move(function);
    entry->name = std::move(name);
    std::lock_guard lock(mutex_);
    drop_removed();
    entries_.insert(prepend ? entries_.begin() : entries_.end(), entry);
    size_ = entries_.size();
    return HookHandle(entry);
  }

  /// The live hooks, in order. Skip an entry whose `removed` became true in the meantime.
  Snapshot snapshot() const {
    if (size_ == 0) return {};
    std::lock_guard lock(mutex_);
    Snapshot live;
    for (const auto& entry : entries_)
      if (!entry->removed) live.push_back(entry);
    return live;
  }

  /// True if nothing was ever registered, or all of it has been removed.
  bool empty() const { return size_ == 0 || snapshot().empty(); }

  /// The live hooks' names, in order.
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : snapshot()) result.push_back(entry->name);
    return result;
  }

  /// Removes every hook.
  void clear() {
    std::lock_guard lock(mutex_);
    for (const auto& entry : entries_) entry->removed = true;
    entries_.clear();
    size_ = 0;
  }

 private:
  void drop_removed() {
    std::erase_if(entries_, [](const auto& entry) { return entry->removed.load(); });
  }

  mutable std::mutex mutex_;
  Snapshot entries_;
  std::atomic<std::size_t> size_{0};
};

}  // namespace grapnel
