// What a backward pass knows of each node, found by the node: a pass looks one up for every edge. Internal to
// the engine.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "grapnel/engine/node.h"

namespace grapnel {

/// Node -> State, which has a member `node`. Open addressing over indices into one array.
template <class State>
class NodeTable {
 public:
  /// The node's index, and whether it is new. Invalidates references to states; nothing is inserted once
  /// the pass runs.
  std::pair<std::size_t, bool> insert(Node* node) {
    if (states_.size() * 2 >= slots_.size()) grow();
    std::uint32_t& slot = slots_[position_of(node)];
    if (slot != kFree) return {slot, false};
    slot = static_cast<std::uint32_t>(states_.size());
    states_.emplace_back().node = node;
    return {slot, true};
  }
  State* find(const Node* node) {
    const std::uint32_t slot = slots_.empty() ? kFree : slots_[position_of(node)];
    return slot == kFree ? nullptr : &states_[slot];
  }
  const State* find(const Node* node) const { return const_cast<NodeTable*>(this)->find(node); }
  State& operator[](std::size_t index) { return states_[index]; }

 private:
  static constexpr std::uint32_t kFree = ~std::uint32_t{0};

  std::size_t position_of(const Node* node) const {
    const auto address = reinterpret_cast<std::uintptr_t>(node);
    // Fibonacci hashing: the high bits of the product depend on all bits of the address.
    std::size_t at = static_cast<std::size_t>(address * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[at] != kFree && states_[slots_[at]].node != node) at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void grow() {
    shift_ = slots_.empty() ? 64 - 6 : shift_ - 1;
    slots_.assign(std::size_t{1} << (64 - shift_), kFree);
    for (std::size_t i = 0; i < states_.size(); ++i)
      slots_[position_of(states_[i].node)] = static_cast<std::uint32_t>(i);
  }

  PoolVector<State> states_;
  PoolVector<std::uint32_t> slots_;
  int shift_ = 64;
};

}  // namespace grapnel
