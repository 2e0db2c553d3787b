#include "grapnel/weights/pickle.h"

#include <array>
#include <charconv>

#include "grapnel/weights/pickle_machine.h"

namespace grapnel::weights {

Pickle::Pickle(const Section& section, const Limits& limits) : section_(section) {
  PickleMachine machine(section_, limits, nodes_);
  root_ = machine.run();
  end_ = machine.end();
}

const Node* Pickle::node(Value value, Node::Kind kind) const {
  const auto* id = std::get_if<NodeId>(&value);
  return id && nodes_[id->index].kind == kind ? &nodes_[id->index] : nullptr;
}

std::optional<std::string_view> Pickle::text(Value value) const {
  const auto* text = std::get_if<Text>(&value);
  if (!text) return std::nullopt;
  return section_.bytes(text->at, text->size);
}

std::string Pickle::describe(Value value) const {
  struct Words {
    const Pickle& pickle;
    std::string operator()(std::monostate) const { return "None"; }
    std::string operator()(bool truth) const { return truth ? "True" : "False"; }
    std::string operator()(std::int64_t integer) const { return std::to_string(integer); }
    std::string operator()(double real) const {
      std::array<char, 32> digits{};
      return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), real).ptr};
    }
    std::string operator()(Text text) const { return quoted(*pickle.text(text)); }
    std::string operator()(Global) const { return "a class or function"; }
    std::string operator()(NodeId id) const {
      switch (pickle.nodes_[id.index].kind) {
        case Node::Kind::tuple:
          return "a tuple";
        case Node::Kind::list:
          return "a list";
        case Node::Kind::dict:
          return "a dictionary";
        case Node::Kind::set:
          return "a set";
        case Node::Kind::call:
          return "a tensor";
        case Node::Kind::persistent:
          return "a storage";
      }
      return "a value";
    }
  };
  return std::visit(Words{*this}, value);
}

std::uint64_t Pickle::number(const Node& node, const std::string& what, Value value) const {
  const auto* integer = std::get_if<std::int64_t>(&value);
  if (!integer || *integer < 0)
    refuse(node, what + " is " + describe(value) + ", expected an integer, not negative");
  return static_cast<std::uint64_t>(*integer);
}

}  // namespace grapnel::weights
