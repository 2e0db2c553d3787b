// The opcodes. Source: Python's pickletools.py; the numbers are those of protocol 2 and before, and protocol
// 4's empty set.
#include "grapnel/weights/pickle_machine.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <utility>

namespace grapnel::weights {
namespace {

/// Module, space, name.
constexpr std::array<std::pair<std::string_view, Global>, 18> kGlobals{{
    {"collections OrderedDict", Global::ordered_dict},
    {"torch._utils _rebuild_tensor", Global::rebuild_tensor},
    {"torch._utils _rebuild_tensor_v2", Global::rebuild_tensor_v2},
    {"torch._utils _rebuild_parameter", Global::rebuild_parameter},
    {"torch.nn.parameter Parameter", Global::parameter},
    {"torch Size", Global::size},
    {"torch DoubleStorage", Global::double_storage},
    {"torch FloatStorage", Global::float_storage},
    {"torch HalfStorage", Global::half_storage},
    {"torch BFloat16Storage", Global::bfloat16_storage},
    {"torch LongStorage", Global::long_storage},
    {"torch IntStorage", Global::int_storage},
    {"torch ShortStorage", Global::short_storage},
    {"torch CharStorage", Global::char_storage},
    {"torch ByteStorage", Global::byte_storage},
    {"torch BoolStorage", Global::bool_storage},
    {"torch.storage TypedStorage", Global::typed_storage},
    {"torch.storage UntypedStorage", Global::untyped_storage},
}};

}  // namespace

Value PickleMachine::run() {
  // Positions in the tree are 32-bit numbers.
  const std::uint64_t longest = std::min(limits_.pickle_bytes, std::uint64_t{1} << 31);
  std::uint64_t opcodes = 0;
  do {
    stack_.at(cursor_.at());
    if (cursor_.at() >= longest)
      stack_.refuse("a pickle beyond the limit of " + std::to_string(longest) + " bytes");
    if (opcodes++ >= limits_.pickle_opcodes)
      stack_.refuse("more opcodes than the limit of " + std::to_string(limits_.pickle_opcodes));
  } while (step(cursor_.take<std::uint8_t>()));
  return stack_.last();
}

/// Runs one opcode; false after the last.
bool PickleMachine::step(std::uint8_t opcode) {
  switch (opcode) {
    case 0x80: /* PROTO */
      cursor_.skip(1);
      break;
    case '.': /* STOP */
      return false;
    case '(': /* MARK */
      stack_.mark();
      break;

    case 'N': /* NONE */
      stack_.push(std::monostate{});
      break;
    case 0x88: /* NEWTRUE */
      stack_.push(true);
      break;
    case 0x89: /* NEWFALSE */
      stack_.push(false);
      break;
    case 'J': /* BININT */
      stack_.push(std::int64_t{cursor_.take<std::int32_t>()});
      break;
    case 'K': /* BININT1 */
      stack_.push(std::int64_t{cursor_.take<std::uint8_t>()});
      break;
    case 'M': /* BININT2 */
      stack_.push(std::int64_t{cursor_.take<std::uint16_t>()});
      break;
    case 0x8a: /* LONG1 */
      stack_.push(long_integer(cursor_.take<std::uint8_t>()));
      break;
    case 'G': /* BINFLOAT */
      stack_.push(std::bit_cast<double>(__builtin_bswap64(cursor_.take<std::uint64_t>())));
      break;
    case 'X': /* BINUNICODE */
      stack_.push(text(cursor_.take<std::uint32_t>()));
      break;
    case 'U': /* SHORT_BINSTRING */
      stack_.push(text(cursor_.take<std::uint8_t>()));
      break;

    case ')': /* EMPTY_TUPLE */
      stack_.push_node(Node::Kind::tuple, {});
      break;
    case 0x85: /* TUPLE1 */
      stack_.push_node(Node::Kind::tuple, stack_.pop(1));
      break;
    case 0x86: /* TUPLE2 */
      stack_.push_node(Node::Kind::tuple, stack_.pop(2));
      break;
    case 0x87: /* TUPLE3 */
      stack_.push_node(Node::Kind::tuple, stack_.pop(3));
      break;
    case 't': /* TUPLE */
      stack_.push_node(Node::Kind::tuple, stack_.pop_to_mark());
      break;
    case ']': /* EMPTY_LIST */
      stack_.push_node(Node::Kind::list, {});
      break;
    case 'a': /* APPEND */
      fill(Node::Kind::list, stack_.pop(1));
      break;
    case 'e': /* APPENDS */
      fill(Node::Kind::list, stack_.pop_to_mark());
      break;
    case '}': /* EMPTY_DICT */
      stack_.push_node(Node::Kind::dict, {});
      break;
    case 's': /* SETITEM */
      fill(Node::Kind::dict, stack_.pop(2));
      break;
    case 'u': /* SETITEMS */
      fill(Node::Kind::dict, stack_.pop_to_mark());
      break;
    case 0x8f: /* EMPTY_SET */
      stack_.push_node(Node::Kind::set, {});
      break;

    case 'q': /* BINPUT */
      stack_.remember(cursor_.take<std::uint8_t>());
      break;
    case 'r': /* LONG_BINPUT */
      stack_.remember(cursor_.take<std::uint32_t>());
      break;
    case 'h': /* BINGET */
      stack_.push_remembered(cursor_.take<std::uint8_t>());
      break;
    case 'j': /* LONG_BINGET */
      stack_.push_remembered(cursor_.take<std::uint32_t>());
      break;

    case 'c': /* GLOBAL */
      stack_.push(global());
      break;
    case 'R': /* REDUCE */
      call();
      break;
    case 0x81: /* NEWOBJ */
      call();
      break;
    case 'b': /* BUILD */
      build();
      break;
    case 'Q': /* BINPERSID */
      persistent();
      break;
    default: {
      constexpr char kDigits[] = "0123456789abcdef";
      stack_.refuse(std::string("pickle opcode 0x") + kDigits[opcode >> 4] + kDigits[opcode & 15] +
                    " is not allowed, expected what torch.save writes with its default pickle protocol 2");
    }
  }
  return true;
}

Text PickleMachine::text(std::uint32_t size) {
  const auto at = static_cast<std::uint32_t>(cursor_.at());
  cursor_.skip(size);
  return {at, size};
}

std::int64_t PickleMachine::long_integer(std::uint8_t size) {
  if (size > 8) stack_.refuse("an integer of " + std::to_string(size) + " bytes, expected at most 8");
  const std::string_view bytes = cursor_.take_bytes(size);
  std::uint64_t value = size > 0 && (bytes.back() & 0x80) ? ~std::uint64_t{0} : 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return static_cast<std::int64_t>(value);
}

std::string_view PickleMachine::line() {
  constexpr std::uint64_t kLongestName = 256;
  const std::uint64_t begin = cursor_.at();
  std::uint64_t size = 0;
  while (cursor_.take<char>() != '\n')
    if (++size > kLongestName)
      stack_.refuse("a name of more than " + std::to_string(kLongestName) + " bytes");
  return section_.bytes(begin, size);
}

Global PickleMachine::global() {
  const std::string module(line()), name(line());
  for (const auto& [known, id] : kGlobals)
    if (known == module + ' ' + name) return id;
  stack_.refuse(
      "the pickle asks for " + quoted(module + '.' + name) +
      ", which is never loaded; expected nothing but tensors: save model.state_dict(), not the model");
}

void PickleMachine::call() {
  const Value arguments = stack_.pop(), callee = stack_.pop();
  const Global* const function = std::get_if<Global>(&callee);
  const Node* const tuple = stack_.node(arguments, Node::Kind::tuple);
  if (!function || !tuple) stack_.refuse("the pickle calls something else than a function with a tuple");
  switch (*function) {
    case Global::ordered_dict:
      ordered_dict(tuple->items);
      break;
    case Global::size:
      if (tuple->items.size() != 1 || !stack_.node(tuple->items[0], Node::Kind::tuple))
        stack_.refuse("torch.Size of something else than a tuple");
      stack_.push(tuple->items[0]);
      break;
    case Global::rebuild_tensor:
    case Global::rebuild_tensor_v2:
    case Global::rebuild_parameter:
    case Global::parameter:
      stack_.push_node(Node::Kind::call, tuple->items, *function);
      break;
    default:
      stack_.refuse("the pickle calls a storage class, expected storages by persistent id only");
  }
}

/// OrderedDict(), or, as Python 2 writes it, OrderedDict([[name, value], ...]).
void PickleMachine::ordered_dict(const Values& arguments) {
  Values items;
  if (!arguments.empty()) {
    const Node* const list = stack_.node(arguments[0], Node::Kind::list);
    if (!list || arguments.size() != 1) stack_.refuse("OrderedDict of something else than a list");
    for (Value entry : list->items) {
      const Node* pair = stack_.node(entry, Node::Kind::list);
      if (!pair) pair = stack_.node(entry, Node::Kind::tuple);
      if (!pair || pair->items.size() != 2)
        stack_.refuse("OrderedDict of a list of something else than pairs");
      for (Value part : pair->items) stack_.append(items, part);
    }
  }
  stack_.push_node(Node::Kind::dict, std::move(items));
}

/// Attributes of a dictionary (torch's `_metadata`) or of a parameter. They say nothing about the values.
void PickleMachine::build() {
  stack_.pop();
  const Value target = stack_.pop();
  if (!stack_.node(target, Node::Kind::dict) && !stack_.node(target, Node::Kind::call))
    stack_.refuse("the pickle gives attributes to something else than a dictionary or a tensor");
  stack_.push(target);
}

void PickleMachine::persistent() {
  const Node* const tuple = stack_.node(stack_.pop(), Node::Kind::tuple);
  if (!tuple) stack_.refuse("a persistent id that is no tuple");
  stack_.push_node(Node::Kind::persistent, tuple->items);
}

/// Appends to the list or the dictionary on top of the stack.
void PickleMachine::fill(Node::Kind kind, const Values& items) {
  const Value top = stack_.pop();
  Node* const target = stack_.node(top, kind);
  if (!target || (kind == Node::Kind::dict && items.size() % 2 != 0))
    stack_.refuse(kind == Node::Kind::dict
                      ? "the pickle adds entries to something else than a dictionary, or half an entry"
                      : "the pickle appends to something else than a list");
  stack_.extend(*target, items);
  stack_.push(top);
}

}  // namespace grapnel::weights
