// Weight files put together piece by piece, so that each piece can be wrong.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "weights/files.h"

namespace grapnel::testing {

// --- zip ---

/// Names and contents.
using Entries = std::vector<std::pair<std::string, std::string>>;

/// A stored zip archive with zip64 end records, as torch writes it, and the places of its parts.
struct Zip {
  std::string bytes;
  std::vector<std::size_t> local, central;  ///< headers, one per entry
  std::size_t end64 = 0, locator = 0, end = 0;

  explicit Zip(const Entries& entries) {
    for (const auto& [name, data] : entries) {
      local.push_back(bytes.size());
      bytes += "PK\x03\x04" + fields(name, data) + name + data;
    }
    const std::size_t directory = bytes.size();
    for (std::size_t i = 0; i < entries.size(); ++i) {
      central.push_back(bytes.size());
      bytes += "PK\x01\x02" + bytes_of<std::uint16_t>(20) + fields(entries[i].first, entries[i].second) +
               std::string(10, '\0') + bytes_of(static_cast<std::uint32_t>(local[i])) + entries[i].first;
    }
    end64 = bytes.size();
    const std::uint64_t size = end64 - directory;
    bytes += "PK\x06\x06" + bytes_of<std::uint64_t>(44) + std::string(12, '\0') +
             bytes_of<std::uint64_t>(entries.size()) + bytes_of<std::uint64_t>(entries.size()) +
             bytes_of(size) + bytes_of<std::uint64_t>(directory);
    locator = bytes.size();
    bytes +=
        "PK\x06\x07" + std::string(4, '\0') + bytes_of<std::uint64_t>(end64) + bytes_of<std::uint32_t>(1);
    end = bytes.size();
    bytes += "PK\x05\x06" + std::string(4, '\0') + bytes_of(static_cast<std::uint16_t>(entries.size())) +
             bytes_of(static_cast<std::uint16_t>(entries.size())) +
             bytes_of(static_cast<std::uint32_t>(size)) + bytes_of(static_cast<std::uint32_t>(directory)) +
             std::string(2, '\0');
  }

  template <class T>
  Zip& put(std::size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof(T));
    return *this;
  }

 private:
  /// From the version needed to the length of the extra field.
  static std::string fields(const std::string& name, const std::string& data) {
    const auto size = bytes_of(static_cast<std::uint32_t>(data.size()));
    return std::string(14, '\0') + size + size + bytes_of(static_cast<std::uint16_t>(name.size())) +
           std::string(2, '\0');
  }
};

// --- pickle ---

inline std::string text(const std::string& value) {
  return 'X' + bytes_of(static_cast<std::uint32_t>(value.size())) + value;
}

inline std::string integer(std::int64_t value) {
  return "\x8a\x08" + bytes_of(value);
}

inline std::string integers(std::initializer_list<std::int64_t> values) {
  std::string items;
  for (std::int64_t value : values) items += integer(value);
  return '(' + items + 't';
}

inline std::string global(const std::string& module, const std::string& name) {
  return 'c' + module + '\n' + name + '\n';
}

inline std::string storage(const std::string& key, std::int64_t count,
                           const std::string& type = "FloatStorage") {
  return '(' + text("storage") + global("torch", type) + text(key) + text("cpu") + integer(count) + "tQ";
}

/// A call of _rebuild_tensor_v2.
inline std::string tensor(const std::string& source, std::int64_t offset,
                          std::initializer_list<std::int64_t> sizes,
                          std::initializer_list<std::int64_t> strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + '(' + source + integer(offset) + integers(sizes) +
         integers(strides) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}

/// A dictionary of names and pickled values.
inline std::string dictionary(const Entries& entries) {
  std::string items;
  for (const auto& [name, value] : entries) items += text(name) + value;
  return "}(" + items + 'u';
}

inline std::string pickle(const std::string& body) {
  return "\x80\x02" + body + '.';
}

// --- files ---

/// The entries of a torch archive: its pickle, and one storage "0" of four floats.
inline Entries torch_entries(const std::string& body) {
  return {{"a/data.pkl", pickle(body)},
          {"a/data/0", bytes_of(1.0f) + bytes_of(2.0f) + bytes_of(3.0f) + bytes_of(4.0f)},
          {"a/version", "3\n"}};
}

/// What the tables start from: {"x": [[1, 2], [3, 4]]}.
inline std::string good_tensor() {
  return tensor(storage("0", 4), 0, {2, 2}, {2, 1});
}
inline std::string good_body() {
  return dictionary({{"x", good_tensor()}});
}

inline std::string torch_zip(const std::string& body) {
  return Zip(torch_entries(body)).bytes;
}

/// A safetensors file.
inline std::string safetensors(const std::string& json, const std::string& data = {}) {
  return bytes_of<std::uint64_t>(json.size()) + json + data;
}

/// A legacy stream with the same storage.
struct Legacy {
  std::string protocol = pickle(integer(1001));
  std::string system = pickle(dictionary({{"little_endian", "\x88"}}));
  std::string object = pickle(good_body());
  std::string keys = pickle("]" + text("0") + 'a');
  std::string data =
      bytes_of<std::int64_t>(4) + bytes_of(1.0f) + bytes_of(2.0f) + bytes_of(3.0f) + bytes_of(4.0f);

  std::string bytes() const {
    return std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15) + protocol + system +
           object + keys + data;
  }
};

// --- what comes back ---

struct Bad {
  std::string what, bytes;
  std::string entry;   ///< as the message names it
  std::string reason;  ///< words of the message
};

/// Each file must be refused with one line that has the entry, an offset and the reason.
inline void check_refused(const std::vector<Bad>& table, const weights::ReadOptions& options = {}) {
  ScratchFile file;
  for (const Bad& bad : table) {
    file.write(bad.bytes);
    const std::string message = refusal(file.path(), options);
    CAPTURE(bad.what);
    CAPTURE(message);
    CHECK(message.starts_with(file.path() + ": entry '" + bad.entry + "', offset "));
    CHECK(message.find(bad.reason) != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
  }
}

inline std::string repeat(const std::string& piece, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += piece;
  return result;
}

}  // namespace grapnel::testing
