// Python's pickle format, as far as torch.save uses it: bytes in, a tree of plain values out.
//
// A pickle is a program for a small stack machine that may name and call any Python function. This machine
// knows the few names of Global, calls nothing, and records a call as a value. Read next: torch_state.h, what
// such a tree means.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "grapnel/weights/mapped_file.h"
#include "grapnel/weights/weights.h"

namespace grapnel::weights {

/// The only classes and functions that a pickle may name.
enum class Global : std::uint8_t {
  ordered_dict,
  rebuild_tensor,
  rebuild_tensor_v2,
  rebuild_parameter,
  parameter,
  size,
  double_storage,
  float_storage,
  half_storage,
  bfloat16_storage,
  long_storage,
  int_storage,
  short_storage,
  char_storage,
  byte_storage,
  bool_storage,
  typed_storage,
  untyped_storage
};

/// Text in the pickle.
struct Text {
  std::uint32_t at, size;
};
/// A Node by number: values refer to each other freely, even in circles.
struct NodeId {
  std::uint32_t index;
};
/// None, a scalar, or something with parts.
using Value = std::variant<std::monostate, bool, std::int64_t, double, Text, Global, NodeId>;

struct Node {
  enum class Kind : std::uint8_t {
    tuple,
    list,
    dict,  ///< items are key, value, key, value, ...; an OrderedDict is one, too
    set,
    call,       ///< items are the arguments of `function`
    persistent  ///< items are the parts of a persistent id: torch's name for a storage
  };
  std::vector<Value> items;
  std::uint32_t at;  ///< of the opcode that made it, in the pickle
  std::uint16_t depth;
  Kind kind;
  Global function{};
};

class Pickle {
 public:
  /// Runs the pickle at the beginning of `section`. Throws FileError for anything but the subset, and beyond
  /// the limits.
  Pickle(const Section& section, const Limits& limits);

  const Section& section() const { return section_; }
  Value root() const { return root_; }
  /// Where the pickle ends in its section.
  std::uint64_t end() const { return end_; }

  const std::deque<Node>& nodes() const { return nodes_; }

  /// The node behind a value of this kind, or null if it is something else.
  const Node* node(Value value, Node::Kind kind) const;
  /// The text of a value, if it is one.
  std::optional<std::string_view> text(Value value) const;
  /// For messages: "a dictionary", "the integer 3".
  std::string describe(Value value) const;

  /// Throws FileError with the place where `node` was made.
  [[noreturn]] void refuse(const Node& node, const std::string& message) const {
    section_.refuse(node.at, message);
  }
  /// An integer that is not negative, a part of `node` called `what`. Refuses anything else.
  std::uint64_t number(const Node& node, const std::string& what, Value value) const;

 private:
  Section section_;
  std::deque<Node> nodes_;
  Value root_;
  std::uint64_t end_ = 0;
};

}  // namespace grapnel::weights
