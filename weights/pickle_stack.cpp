#include "grapnel/weights/pickle_stack.h"

#include <algorithm>
#include <utility>

namespace grapnel::weights {

void PickleStack::mark() {
  if (marks_.size() >= limits_.depth) refuse("nested deeper than " + std::to_string(limits_.depth));
  marks_.push_back(stack_.size());
}

Value PickleStack::pop() {
  if (reachable() == 0) refuse("the pickle takes a value that is not there");
  const Value value = stack_.back();
  stack_.pop_back();
  return value;
}

Values PickleStack::pop(std::size_t count) {
  if (reachable() < count) refuse("the pickle takes a value that is not there");
  Values values(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
  stack_.resize(stack_.size() - count);
  return values;
}

Values PickleStack::pop_to_mark() {
  if (marks_.empty()) refuse("the pickle goes back to a mark that is not there");
  Values values = pop(reachable());
  marks_.pop_back();
  return values;
}

Value PickleStack::last() const {
  if (stack_.size() != 1 || !marks_.empty())
    refuse("the pickle ends with " + std::to_string(stack_.size()) + " values, expected one");
  return stack_.back();
}

void PickleStack::remember(std::uint32_t slot) {
  if (slot >= limits_.pickle_memo)
    refuse("memo " + std::to_string(slot) + ", the limit is " + std::to_string(limits_.pickle_memo));
  if (reachable() == 0) refuse("the pickle remembers a value that is not there");
  if (slot >= memo_.size()) {
    charge((slot + 1 - memo_.size()) * sizeof(memo_[0]));
    memo_.resize(slot + 1);
  }
  memo_[slot] = stack_.back();
}

void PickleStack::push_remembered(std::uint32_t slot) {
  if (slot >= memo_.size() || !memo_[slot])
    refuse("memo " + std::to_string(slot) + " is used before it is set");
  push(*memo_[slot]);
}

Node* PickleStack::node(Value value, Node::Kind kind) const {
  const auto* id = std::get_if<NodeId>(&value);
  return id && nodes_[id->index].kind == kind ? &nodes_[id->index] : nullptr;
}

void PickleStack::push_node(Node::Kind kind, Values items, Global function) {
  charge(sizeof(Node) + items.capacity() * sizeof(Value));
  Node made{std::move(items), static_cast<std::uint32_t>(at_), 1, kind, function};
  deepen(made, made.items);
  nodes_.push_back(std::move(made));
  push(NodeId{static_cast<std::uint32_t>(nodes_.size() - 1)});
}

void PickleStack::extend(Node& node, const Values& items) {
  deepen(node, items);
  for (Value item : items) append(node.items, item);
}

void PickleStack::append(Values& values, Value value) {
  if (values.size() == values.capacity()) {
    const std::size_t capacity = std::max<std::size_t>(2 * values.size(), 4);
    charge((capacity - values.size()) * sizeof(Value));
    values.reserve(capacity);
  }
  values.push_back(value);
}

void PickleStack::charge(std::uint64_t bytes) {
  memory_ += bytes;
  if (memory_ > limits_.pickle_memory)
    refuse("the values need more memory than the limit of " + std::to_string(limits_.pickle_memory) +
           " bytes");
}

void PickleStack::deepen(Node& node, const Values& items) const {
  for (Value item : items)
    if (const auto* id = std::get_if<NodeId>(&item))
      node.depth = std::max(node.depth, static_cast<std::uint16_t>(nodes_[id->index].depth + 1));
  if (node.depth > limits_.depth) refuse("nested deeper than " + std::to_string(limits_.depth));
}

}  // namespace grapnel::weights
