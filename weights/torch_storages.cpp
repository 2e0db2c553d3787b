// Persistent ids: ('storage', torch.FloatStorage, key, location, elements[, view]), where view is None or, in
// files of the first versions, (view key, offset, elements). The location ('cpu', 'cuda:0') does not matter
// here. Source: torch/serialization.py.
#include "grapnel/weights/torch_storages.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

namespace grapnel::weights {
namespace {

constexpr std::size_t kLongestKey = 256;

std::optional<Stored> stored_type(Value storage_class) {
  const auto* global = std::get_if<Global>(&storage_class);
  if (!global) return std::nullopt;
  switch (*global) {
    case Global::double_storage:
      return Stored::float64;
    case Global::float_storage:
      return Stored::float32;
    case Global::half_storage:
      return Stored::float16;
    case Global::bfloat16_storage:
      return Stored::bfloat16;
    case Global::long_storage:
      return Stored::int64;
    case Global::int_storage:
      return Stored::int32;
    case Global::short_storage:
      return Stored::int16;
    case Global::char_storage:
      return Stored::int8;
    case Global::byte_storage:
    case Global::untyped_storage:
      return Stored::uint8;
    case Global::bool_storage:
      return Stored::boolean;
    default:
      return std::nullopt;
  }
}

TorchStorage announced(const Pickle& pickle, const Node& id) {
  const auto& parts = id.items;
  const auto key = parts.size() > 2 ? pickle.text(parts[2]) : std::nullopt;
  if (parts.size() < 5 || parts.size() > 6 || pickle.text(parts[0]) != "storage" || !key ||
      key->size() > kLongestKey)
    pickle.refuse(id, "unknown persistent id, expected ('storage', type, key, location, elements)");
  const std::string what = "storage " + quoted(*key);
  const auto type = stored_type(parts[1]);
  if (!type) pickle.refuse(id, what + " has no known element type");
  const std::uint64_t count = pickle.number(id, what + ", number of elements", parts[4]);
  if (std::uint64_t bytes = 0; __builtin_mul_overflow(count, item_size(*type), &bytes))
    pickle.refuse(id, what + " of " + std::to_string(count) + " elements overflows");
  return {*key, &id, count, *type};
}

}  // namespace

TorchStorages::TorchStorages(const Pickle& pickle) : pickle_(pickle) {
  const auto& nodes = pickle.nodes();
  const auto is_id = [](const Node& node) { return node.kind == Node::Kind::persistent; };
  storages_.reserve(static_cast<std::size_t>(std::count_if(nodes.begin(), nodes.end(), is_id)));
  for (const Node& node : nodes)
    if (is_id(node)) storages_.push_back(announced(pickle, node));

  std::sort(storages_.begin(), storages_.end(), [](const TorchStorage& a, const TorchStorage& b) {
    return std::pair(a.key, a.announced->at) < std::pair(b.key, b.announced->at);
  });
  const auto same = [&](const TorchStorage& first, const TorchStorage& next) {
    if (first.key != next.key) return false;
    if (first.count != next.count || first.type != next.type)
      pickle.refuse(*next.announced, "storage " + quoted(next.key) + " is announced twice, differently");
    return true;
  };
  storages_.erase(std::unique(storages_.begin(), storages_.end(), same), storages_.end());
}

TorchStorage* TorchStorages::find(std::string_view key) {
  const auto found = std::lower_bound(
      storages_.begin(), storages_.end(), key,
      [](const TorchStorage& storage, std::string_view wanted) { return storage.key < wanted; });
  return found != storages_.end() && found->key == key ? &*found : nullptr;
}

StorageView TorchStorages::view(const Node& id, const std::string& what) {
  TorchStorage* const storage = find(*pickle_.text(id.items[2]));
  if (id.items.size() == 5 || std::holds_alternative<std::monostate>(id.items[5]))
    return {storage, 0, storage->count};
  const Node* const view = pickle_.node(id.items[5], Node::Kind::tuple);
  if (!view || view->items.size() != 3) pickle_.refuse(id, what + " has an unknown view of its storage");
  const std::uint64_t offset = pickle_.number(id, what + ", offset of the storage view", view->items[1]);
  const std::uint64_t count = pickle_.number(id, what + ", size of the storage view", view->items[2]);
  if (offset > storage->count || count > storage->count - offset)
    pickle_.refuse(id, what + " has a view that reaches outside its storage of " +
                           std::to_string(storage->count) + " elements");
  return {storage, offset, count};
}

}  // namespace grapnel::weights
