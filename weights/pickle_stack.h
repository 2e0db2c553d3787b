// What the pickle machine works on: its stack with marks, its memo, and the nodes it makes, all of them
// within limits.
//
// Nodes are never freed before the whole pickle is, so counting allocations bounds the memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "grapnel/weights/pickle.h"

namespace grapnel::weights {

using Values = std::vector<Value>;

class PickleStack {
 public:
  PickleStack(const Section& section, const Limits& limits, std::deque<Node>& nodes)
      : section_(section), limits_(limits), nodes_(nodes) {}

  /// Tells where the current opcode stands: refusals and new nodes carry it.
  void at(std::uint64_t position) { at_ = position; }
  [[noreturn]] void refuse(const std::string& message) const { section_.refuse(at_, message); }

  // --- the stack; values below the last mark are out of reach, as in Python ---
  void mark();
  void push(Value value) { append(stack_, value); }
  /// Makes a node and pushes it.
  void push_node(Node::Kind kind, Values items, Global function = {});
  Value pop();
  Values pop(std::size_t count);
  Values pop_to_mark();
  /// The one value left at the end.
  Value last() const;

  // --- the memo ---
  void remember(std::uint32_t slot);
  void push_remembered(std::uint32_t slot);

  // --- nodes ---
  /// The node behind a value of this kind, or null.
  Node* node(Value value, Node::Kind kind) const;
  /// Appends items to a node.
  void extend(Node& node, const Values& items);
  /// Appends within the memory limit.
  void append(Values& values, Value value);

 private:
  std::size_t reachable() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  void charge(std::uint64_t bytes);
  void deepen(Node& node, const Values& items) const;

  const Section& section_;
  const Limits& limits_;
  std::deque<Node>& nodes_;
  std::uint64_t at_ = 0;
  std::uint64_t memory_ = 0;
  Values stack_;
  std::vector<std::size_t> marks_;
  std::vector<std::optional<Value>> memo_;
};

}  // namespace grapnel::weights
