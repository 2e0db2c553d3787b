// The storages that a torch pickle announces. Their data lies elsewhere in the file, where depends on the
// container.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "grapnel/weights/pickle.h"
#include "grapnel/weights/stored.h"

namespace grapnel::weights {

struct TorchStorage {
  std::string_view key;
  const Node* announced;  ///< the persistent id
  std::uint64_t count;    ///< elements
  Stored type;
  std::uint64_t begin = 0;                     ///< of the data in the file; 0 until the container found it
  std::shared_ptr<Storage> storage = nullptr;  ///< once a tensor needed it

  std::uint64_t bytes() const { return count * item_size(type); }
};

/// The part of a storage that a tensor may use, in elements.
struct StorageView {
  TorchStorage* storage;
  std::uint64_t offset, count;
};

class TorchStorages {
 public:
  /// Collects the storages from all persistent ids of the pickle, wherever they stand. Throws FileError for
  /// ids of another form, unknown element types, and ids that contradict each other.
  explicit TorchStorages(const Pickle& pickle);

  /// Sorted by key.
  std::vector<TorchStorage>& all() { return storages_; }
  /// The storage of this key, or null.
  TorchStorage* find(std::string_view key);
  /// What a persistent id of the same pickle stands for; `what` names the tensor in messages.
  StorageView view(const Node& id, const std::string& what);

 private:
  const Pickle& pickle_;
  std::vector<TorchStorage> storages_;
};

}  // namespace grapnel::weights
