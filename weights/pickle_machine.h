// Runs a pickle, one opcode after the other, without ever calling anything.
#pragma once

#include <cstdint>
#include <string_view>

#include "grapnel/weights/pickle.h"
#include "grapnel/weights/pickle_stack.h"

namespace grapnel::weights {

class PickleMachine {
 public:
  /// Nodes are appended to `nodes`, and refer to each other by their place in it.
  PickleMachine(const Section& section, const Limits& limits, std::deque<Node>& nodes)
      : section_(section), limits_(limits), cursor_(section), stack_(section, limits, nodes) {}

  /// Runs to STOP and returns the value left. Throws FileError.
  Value run();
  /// Where the next byte after the pickle is.
  std::uint64_t end() const { return cursor_.at(); }

 private:
  bool step(std::uint8_t opcode);

  // The opcodes that need more than a line.
  Text text(std::uint32_t size);
  std::int64_t long_integer(std::uint8_t size);
  std::string_view line();
  Global global();
  void call();
  void ordered_dict(const Values& arguments);
  void build();
  void persistent();
  void fill(Node::Kind kind, const Values& items);

  const Section& section_;
  const Limits& limits_;
  Cursor cursor_;
  PickleStack stack_;
};

}  // namespace grapnel::weights
