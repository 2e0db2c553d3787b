// Tensors are described by calls:
//   torch._utils._rebuild_tensor(storage, offset, size, stride), before torch 0.4
//   torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks[, metadata])
//   torch._utils._rebuild_parameter(tensor, requires_grad, backward_hooks), or
//   torch.nn.parameter.Parameter(tensor, ...)
// Offsets and strides count elements. Source: torch/_utils.py.
#include "grapnel/weights/torch_state.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <variant>

namespace grapnel::weights {
namespace {

struct TensorPlan {
  TorchStorage* storage;
  std::uint64_t offset;
  Shape shape;
  Strides strides;
  std::uint64_t repeated_bytes;  ///< what a dense float64 copy would need beyond the storage
};

class StateReader {
 public:
  StateReader(const Pickle& pickle, TorchStorages& storages, const ReadOptions& options)
      : pickle_(pickle), storages_(storages), options_(options) {}

  StateFile read(std::string format) {
    const Node& dict = find_dictionary();
    check(dict);

    // Planning twice costs less than keeping the plans of many tensors.
    StateFile result{{}, {}, std::move(format)};
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const std::string name(*pickle_.text(dict.items[i]));
      const Value value = dict.items[i + 1];
      if (const Node* call = pickle_.node(value, Node::Kind::call))
        result.tensors.emplace_back(name, make(plan(name, *call)));
      else if (const auto text = pickle_.text(value))
        result.metadata.emplace(name, *text);
      else
        result.metadata.emplace(name, pickle_.describe(value));
    }
    return result;
  }

 private:
  static bool is_wrapper(std::string_view name) { return name == "state_dict" || name == "model"; }

  /// The dictionary inside `dict` that holds the tensors, or null.
  const Node* find_wrapped(const Node& dict) const {
    for (std::size_t i = 0; i < dict.items.size(); i += 2)
      if (const auto name = pickle_.text(dict.items[i]); name && is_wrapper(*name))
        if (const Node* inner = pickle_.node(dict.items[i + 1], Node::Kind::dict)) return inner;
    return nullptr;
  }

  const Node& find_dictionary() const {
    const Node* dict = pickle_.node(pickle_.root(), Node::Kind::dict);
    if (!dict)
      pickle_.section().refuse(0, "the file holds " + pickle_.describe(pickle_.root()) +
                                      ", expected a dictionary of tensors: save model.state_dict()");
    if (!options_.unwrap) return *dict;
    // A dictionary may hold itself, so the way down has an end.
    for (std::size_t depth = 0; depth < options_.limits.depth; ++depth) {
      const Node* inner = find_wrapped(*dict);
      if (!inner) break;
      dict = inner;
    }
    return *dict;
  }

  /// Everything that can be wrong with the dictionary, before anything is made of it.
  void check(const Node& dict) {
    if (dict.items.size() / 2 > options_.limits.entries)
      pickle_.refuse(dict, std::to_string(dict.items.size() / 2) + " entries, the limit is " +
                               std::to_string(options_.limits.entries));
    // Ordered, because a hash table can be made slow by names chosen for it.
    std::set<std::string_view> names;
    std::uint64_t text_bytes = 0, repeated_bytes = 0;
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const auto name = pickle_.text(dict.items[i]);
      if (!name)
        pickle_.refuse(dict, "a tensor is named " + pickle_.describe(dict.items[i]) + ", expected text");
      if (!names.insert(*name).second) pickle_.refuse(dict, "entry " + quoted(*name) + " appears twice");
      if (!is_utf8(*name)) pickle_.refuse(dict, "name " + quoted(*name) + " is not UTF-8");

      const Value value = dict.items[i + 1];
      if (const Node* call = pickle_.node(value, Node::Kind::call)) {
        repeated_bytes += plan(*name, *call).repeated_bytes;
        if (repeated_bytes > options_.limits.repeated_bytes)
          pickle_.refuse(*call, "tensor " + quoted(*name) +
                                    " repeats elements of its storage, beyond the limit of " +
                                    std::to_string(options_.limits.repeated_bytes) + " bytes");
      } else if (const auto text = pickle_.text(value)) {
        // One long text can be the value of many names, and each gets its copy.
        text_bytes += text->size();
        if (text_bytes > pickle_.end()) pickle_.refuse(dict, "texts beyond the size of the pickle");
      } else if (std::holds_alternative<NodeId>(value) || std::holds_alternative<Global>(value)) {
        const bool wrapper = is_wrapper(*name) && pickle_.node(value, Node::Kind::dict);
        pickle_.refuse(dict, "entry " + quoted(*name) + " is " + pickle_.describe(value) +
                                 ", expected a tensor" +
                                 (wrapper ? "; its content can be read with the option to unwrap" : ""));
      }
    }
  }

  TensorPlan plan(std::string_view name, const Node& outer) {
    const std::string what = "tensor " + quoted(name);
    const Node* call = &outer;
    if (outer.function == Global::rebuild_parameter || outer.function == Global::parameter) {
      call = outer.items.empty() ? nullptr : pickle_.node(outer.items[0], Node::Kind::call);
      if (!call) pickle_.refuse(outer, what + " is a parameter without a tensor");
    }
    const auto& arguments = call->items;
    const bool complete =
        (call->function == Global::rebuild_tensor && arguments.size() == 4) ||
        (call->function == Global::rebuild_tensor_v2 && (arguments.size() == 6 || arguments.size() == 7));
    if (!complete)
      pickle_.refuse(*call, what + " is rebuilt from " + std::to_string(arguments.size()) +
                                " arguments, expected 4, 6 or 7");
    if (arguments.size() == 7 && !is_nothing(arguments[6]))
      pickle_.refuse(*call,
                     what + " is a conjugate or negative view, which is not supported: save a clone()");
    const Node* id = pickle_.node(arguments[0], Node::Kind::persistent);
    if (!id) pickle_.refuse(*call, what + " has " + pickle_.describe(arguments[0]) + ", expected a storage");

    const Shape shape = dims(*call, what + ", size", arguments[2]);
    const Strides strides = dims(*call, what + ", stride", arguments[3]);
    if (shape.size() != strides.size())
      pickle_.refuse(*call, what + " has " + std::to_string(shape.size()) + " sizes, but " +
                                std::to_string(strides.size()) + " strides");
    return place(*call, what, storages_.view(*id, what),
                 pickle_.number(*call, what + ", offset", arguments[1]), shape, strides);
  }

  /// Checks that all elements lie in the part of the storage given to the tensor.
  TensorPlan place(const Node& call, const std::string& what, const StorageView& view, std::uint64_t offset,
                   const Shape& shape, const Strides& strides) const {
    std::uint64_t count = 0;
    if (!checked_numel(shape, count))
      pickle_.refuse(call, what + " of shape " + to_string(shape) + " overflows");
    std::uint64_t end = offset;
    bool overflow = false;
    if (count > 0) {
      for (std::size_t i = 0; i < shape.size(); ++i) {
        std::uint64_t reach = 0;
        overflow |= __builtin_mul_overflow(static_cast<std::uint64_t>(shape[i] - 1),
                                           static_cast<std::uint64_t>(strides[i]), &reach);
        overflow |= __builtin_add_overflow(end, reach, &end);
      }
      overflow |= __builtin_add_overflow(end, std::uint64_t{1}, &end);
    }
    if (overflow || end > view.count)
      pickle_.refuse(call, what + " of shape " + to_string(shape) + ", strides " + to_string(strides) +
                               ", offset " + std::to_string(offset) + " reaches outside its storage of " +
                               std::to_string(view.count) + " elements");
    const std::uint64_t repeated = count > view.count ? count - view.count : 0;
    return {view.storage, view.offset + offset, shape, count > 0 ? strides : dense_strides(shape),
            repeated * sizeof(double)};
  }

  /// None, or an empty dictionary.
  bool is_nothing(Value value) const {
    const Node* dict = pickle_.node(value, Node::Kind::dict);
    return std::holds_alternative<std::monostate>(value) || (dict && dict->items.empty());
  }

  Dims dims(const Node& call, const std::string& what, Value value) const {
    const Node* tuple = pickle_.node(value, Node::Kind::tuple);
    if (!tuple) pickle_.refuse(call, what + " is " + pickle_.describe(value) + ", expected a tuple");
    const std::size_t most = std::min(options_.limits.rank, Dims::kMax);
    if (tuple->items.size() > most)
      pickle_.refuse(call, what + " has " + std::to_string(tuple->items.size()) +
                               " dimensions, the limit is " + std::to_string(most));
    Dims result;
    for (Value item : tuple->items)
      result.push_back(static_cast<std::int64_t>(pickle_.number(call, what, item)));
    return result;
  }

  Tensor make(const TensorPlan& plan) const {
    TorchStorage& source = *plan.storage;
    if (!source.storage)
      source.storage = load(pickle_.section().file(), source.begin, source.count, source.type);
    return Tensor::view_of(source.storage, static_cast<std::int64_t>(plan.offset), plan.shape, plan.strides,
                           read_as(source.type));
  }

  const Pickle& pickle_;
  TorchStorages& storages_;
  const ReadOptions& options_;
};

}  // namespace

StateFile read_torch_state(const Pickle& pickle, TorchStorages& storages, const ReadOptions& options,
                           std::string format) {
  return StateReader(pickle, storages, options).read(std::move(format));
}

}  // namespace grapnel::weights
