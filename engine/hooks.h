// Lists of callbacks that may change while they run, and the handles that remove from them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <iterator>
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

/// `tensor hook "name" of mul`: how messages call a hook; an empty name or owner is left out.
std::string hook_title(const std::string& kind, const std::string& name, const std::string& owner);

/// Rethrows the exception being handled, its message opened by `hook`: in its class if it is one of the
/// engine's, in an Error otherwise. The original is nested inside.
[[noreturn]] void rethrow_from_hook(const std::string& hook);

/// An ordered list of hooks of one kind. Running works on a snapshot: what is registered during a run joins
/// the next one; what is removed before its turn does not fire. Safe from several threads.
template <class Function>
class HookList {
 public:
  struct Entry : detail::HookEntry {
    Function function;

    /// Runs `use(function)` unless the hook was removed; its exceptions name the hook.
    template <class Use>
    void run(const char* kind, const char* owner, const Use& use) const {
      if (removed) return;
      try {
        use(function);
      } catch (...) {
        rethrow_from_hook(hook_title(kind, name, owner));
      }
    }
  };
  using Entries = std::vector<std::shared_ptr<Entry>>;

  /// The hooks of one moment, in order. Skip an entry whose `removed` is true: it may become so at any time.
  class Snapshot {
   public:
    Snapshot() = default;
    explicit Snapshot(std::shared_ptr<const Entries> entries) : entries_(std::move(entries)) {}
    auto begin() const { return entries_ ? entries_->data() : nullptr; }
    auto end() const { return entries_ ? entries_->data() + entries_->size() : nullptr; }

   private:
    std::shared_ptr<const Entries> entries_;
  };

  HookHandle add(Function function, std::string name = {}, bool prepend = false) {
    auto entry = std::make_shared<Entry>();
    entry->function = std::move(function);
    entry->name = std::move(name);
    std::lock_guard lock(mutex_);
    // A new list, for a run may be walking the old one.
    auto entries = std::make_shared<Entries>();
    if (entries_)
      std::copy_if(entries_->begin(), entries_->end(), std::back_inserter(*entries),
                   [](const auto& old) { return !old->removed; });
    entries->insert(prepend ? entries->begin() : entries->end(), entry);
    entries_ = std::move(entries);
    used_.store(true, std::memory_order_release);
    return HookHandle(entry);
  }

  Snapshot snapshot() const {
    if (!used_.load(std::memory_order_acquire)) return {};
    std::lock_guard lock(mutex_);
    return Snapshot(entries_);
  }

  /// True if nothing was ever registered, or all of it has been removed.
  bool empty() const {
    if (!used_.load(std::memory_order_acquire)) return true;
    const Snapshot all = snapshot();
    return std::all_of(all.begin(), all.end(), [](const auto& entry) { return entry->removed.load(); });
  }

  /// The live hooks' names, in order.
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : snapshot())
      if (!entry->removed) result.push_back(entry->name);
    return result;
  }

  /// Removes every hook.
  void clear() {
    std::lock_guard lock(mutex_);
    if (entries_)
      for (const auto& entry : *entries_) entry->removed = true;
    entries_ = nullptr;
    used_.store(false, std::memory_order_release);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Entries> entries_;
  std::atomic<bool> used_{false};
};

}  // namespace grapnel
