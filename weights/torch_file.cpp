// Where torch.save puts the pickle and the data. Source: torch/serialization.py, _save and _legacy_save.
#include "grapnel/weights/torch_file.h"

#include <string>
#include <string_view>
#include <vector>

#include "grapnel/weights/pickle.h"
#include "grapnel/weights/torch_state.h"
#include "grapnel/weights/torch_storages.h"
#include "grapnel/weights/zip.h"

namespace grapnel::weights {
namespace {

constexpr std::string_view kZipBegin("PK\x03\x04", 4);
/// The pickle of 0x1950a86a20f9469cfc6c.
constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
constexpr std::int64_t kLegacyProtocol = 1001;

bool begins_with(const MappedFile& file, std::string_view bytes) {
  return std::string_view(reinterpret_cast<const char*>(file.data()), file.size()).starts_with(bytes);
}

/// "ROOT/" of the archive: the one directory at its top that holds a data.pkl.
std::string_view find_root(const Section& archive, const std::vector<ZipEntry>& entries) {
  std::string_view root;
  for (const ZipEntry& entry : entries) {
    const std::size_t slash = entry.name.find('/');
    if (slash == entry.name.npos) continue;
    const std::string_view inner = entry.name.substr(slash + 1);
    if (inner == "constants.pkl" || inner.starts_with("code/"))
      archive.refuse(
          entry.header,
          "a TorchScript archive (it holds " + quoted(entry.name) +
              "), expected plain weights: in Python, torch.save(torch.jit.load(FILE).state_dict(), NEW)");
    if (inner != "data.pkl") continue;
    if (!root.empty()) archive.refuse(entry.header, "a second data.pkl, expected one");
    root = entry.name.substr(0, slash + 1);
  }
  if (root.empty()) archive.refuse(0, "a zip archive without data.pkl, expected one written by torch.save");
  return root;
}

/// Finds the data of each storage in its own entry.
void find_in_zip(TorchStorages& storages, const Pickle& pickle, const std::vector<ZipEntry>& entries,
                 const std::string& root) {
  for (TorchStorage& storage : storages.all()) {
    const std::string name = root + "data/" + std::string(storage.key);
    const ZipEntry* entry = find_entry(entries, name);
    if (!entry)
      pickle.refuse(*storage.announced,
                    "storage " + quoted(storage.key) + " expected in " + quoted(name) + ", no such entry");
    if (entry->size != storage.bytes())
      pickle.refuse(*storage.announced, quoted(name) + " holds " + std::to_string(entry->size) +
                                            " bytes, expected " + std::to_string(storage.bytes()));
    storage.begin = entry->begin;
  }
}

/// The pickle at `at`, which is moved behind it.
Pickle next_pickle(const Section& whole, std::string name, std::uint64_t& at, const Limits& limits) {
  Pickle pickle(whole.part(std::move(name), at, whole.size() - at), limits);
  at += pickle.end();
  return pickle;
}

void check_system(const Pickle& system) {
  const Node* dict = system.node(system.root(), Node::Kind::dict);
  if (!dict)
    system.section().refuse(0,
                            "expected a dictionary about the system, got " + system.describe(system.root()));
  for (std::size_t i = 0; i < dict->items.size(); i += 2)
    if (const auto* truth = std::get_if<bool>(&dict->items[i + 1]);
        system.text(dict->items[i]) == "little_endian" && truth && !*truth)
      system.refuse(*dict, "written on a big-endian machine, expected little-endian data");
}

/// Finds the data of the storages, which begins at `at` and follows the list of keys.
void find_in_stream(TorchStorages& storages, const Pickle& pickle, const Pickle& keys, const Section& whole,
                    std::uint64_t at) {
  const Node* list = keys.node(keys.root(), Node::Kind::list);
  if (!list) keys.section().refuse(0, "expected a list of storage keys, got " + keys.describe(keys.root()));
  for (Value item : list->items) {
    const auto key = keys.text(item);
    TorchStorage* storage = key ? storages.find(*key) : nullptr;
    if (!storage || storage->begin != 0)
      keys.refuse(*list, "storage key " + keys.describe(item) +
                             (storage ? " is listed twice" : " belongs to no tensor"));
    const auto count = whole.number<std::uint64_t>(at);
    if (count != storage->count)
      whole.refuse(at, "storage " + quoted(*key) + " has " + std::to_string(count) + " elements, expected " +
                           std::to_string(storage->count));
    at += sizeof(count);
    whole.bytes(at, storage->bytes());
    storage->begin = at;
    at += storage->bytes();
  }
  for (const TorchStorage& storage : storages.all())
    if (storage.begin == 0)
      pickle.refuse(*storage.announced, "storage " + quoted(storage.key) + " is not in the list of keys");
  if (at != whole.size())
    whole.refuse(at, std::to_string(whole.size() - at) + " bytes after the last storage, expected the end");
}

}  // namespace

bool is_zip(const MappedFile& file) {
  return begins_with(file, kZipBegin);
}

StateFile read_torch_zip(const FilePtr& file, const ReadOptions& options) {
  const std::vector<ZipEntry> entries = read_zip_directory(file, options.limits);
  const Section archive(file, "central directory");
  const std::string root(find_root(archive, entries));
  require_stored(file, entries);
  if (const ZipEntry* order = find_entry(entries, root + "byteorder"))
    if (const Section text(file, root + "byteorder", order->begin, order->size);
        text.bytes(0, text.size()) != "little")
      text.refuse(0, "byte order " + quoted(text.bytes(0, text.size())) + ", expected 'little'");

  const ZipEntry& data = *find_entry(entries, root + "data.pkl");
  const Section section(file, root + "data.pkl", data.begin, data.size);
  if (data.size > options.limits.pickle_bytes)
    section.refuse(0, "a pickle of " + std::to_string(data.size) + " bytes, the limit is " +
                          std::to_string(options.limits.pickle_bytes));
  const Pickle pickle(section, options.limits);
  if (pickle.end() != section.size()) section.refuse(pickle.end(), "the entry goes on after its pickle");

  TorchStorages storages(pickle);
  find_in_zip(storages, pickle, entries, root);
  return read_torch_state(pickle, storages, options, "torch zip");
}

bool is_torch_legacy(const MappedFile& file) {
  return begins_with(file, kLegacyMagic);
}

StateFile read_torch_legacy(const FilePtr& file, const ReadOptions& options) {
  const Section whole(file, "storages");
  std::uint64_t at = kLegacyMagic.size();
  const Pickle protocol = next_pickle(whole, "protocol version", at, options.limits);
  const Value version = protocol.root();
  if (const auto* number = std::get_if<std::int64_t>(&version); !number || *number != kLegacyProtocol)
    protocol.section().refuse(0, "protocol version " + protocol.describe(version) + ", expected " +
                                     std::to_string(kLegacyProtocol));
  check_system(next_pickle(whole, "system", at, options.limits));
  const Pickle pickle = next_pickle(whole, "object", at, options.limits);
  const Pickle keys = next_pickle(whole, "storage keys", at, options.limits);

  TorchStorages storages(pickle);
  find_in_stream(storages, pickle, keys, whole, at);
  return read_torch_state(pickle, storages, options, "torch legacy");
}

}  // namespace grapnel::weights
