// The safetensors format: u64 length N, N bytes of JSON, data.
//   {"__metadata__": {name: text}, NAME: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]},
//   ...}
// Offsets count from the end of the header. Source: the format section of the safetensors project's README.
#include "grapnel/weights/safetensors.h"

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "grapnel/weights/json.h"
#include "grapnel/weights/stored.h"

namespace grapnel::weights {
namespace {

constexpr std::uint64_t kLengthSize = 8;

constexpr std::array<std::pair<std::string_view, Stored>, 12> kTypes{{{"F64", Stored::float64},
                                                                      {"F32", Stored::float32},
                                                                      {"F16", Stored::float16},
                                                                      {"BF16", Stored::bfloat16},
                                                                      {"I64", Stored::int64},
                                                                      {"I32", Stored::int32},
                                                                      {"I16", Stored::int16},
                                                                      {"I8", Stored::int8},
                                                                      {"U32", Stored::uint32},
                                                                      {"U16", Stored::uint16},
                                                                      {"U8", Stored::uint8},
                                                                      {"BOOL", Stored::boolean}}};

struct Placed {
  std::string name;
  std::uint64_t at = 0;  ///< of the name in the header
  std::optional<Stored> type;
  std::optional<Shape> shape;
  std::optional<std::pair<std::uint64_t, std::uint64_t>> range;
};

class Header {
 public:
  Header(const Section& section, const Limits& limits) : json_(section), limits_(limits) {}

  /// In the header's order. A deque, because a growing vector would hold everything twice for a moment.
  std::deque<Placed> tensors;
  std::map<std::string, std::string> metadata;

  void read() {
    bool metadata_seen = false;
    json_.object([&](std::string name, std::uint64_t at) {
      if (name == "__metadata__") {
        if (std::exchange(metadata_seen, true)) json_.refuse(at, "'__metadata__' appears twice");
        read_metadata();
      } else {
        check_count(at, tensors.size());
        read_tensor(tensors.emplace_back(Placed{std::move(name), at, {}, {}, {}}));
      }
    });
    json_.end();
  }

 private:
  void check_count(std::uint64_t at, std::size_t count) {
    if (count >= limits_.entries)
      json_.refuse(at, "more than " + std::to_string(limits_.entries) + " entries");
  }

  void read_metadata() {
    json_.object([&](std::string name, std::uint64_t at) {
      check_count(at, metadata.size());
      const auto [place, added] = metadata.try_emplace(std::move(name));
      if (!added) json_.refuse(at, "metadata " + quoted(place->first) + " appears twice");
      place->second = json_.string();
    });
  }

  void read_tensor(Placed& tensor) {
    json_.object([&](const std::string& key, std::uint64_t at) {
      const auto once = [&](const auto& field) {
        if (field) json_.refuse(at, "tensor " + quoted(tensor.name) + " has " + quoted(key) + " twice");
      };
      if (key == "dtype") {
        once(tensor.type);
        tensor.type = read_type(tensor.name);
      } else if (key == "shape") {
        once(tensor.shape);
        tensor.shape = read_shape(tensor.name);
      } else if (key == "data_offsets") {
        once(tensor.range);
        tensor.range = read_range(tensor.name);
      } else {
        json_.refuse(at, "tensor " + quoted(tensor.name) + " has " + quoted(key) +
                             ", expected dtype, shape and data_offsets");
      }
    });
    if (!tensor.type || !tensor.shape || !tensor.range)
      json_.refuse(tensor.at, "tensor " + quoted(tensor.name) + " lacks dtype, shape or data_offsets");
  }

  Stored read_type(const std::string& tensor) {
    const std::uint64_t at = json_.skip_space();
    const std::string came = json_.string();
    for (const auto& [type_name, type] : kTypes)
      if (type_name == came) return type;
    json_.refuse(at, "tensor " + quoted(tensor) + " has dtype " + quoted(came) +
                         ", expected one of F64 F32 F16 BF16 I64 I32 I16 I8 U32 U16 U8 BOOL");
  }

  Shape read_shape(const std::string& tensor) {
    Shape shape;
    json_.array([&](std::uint64_t at) {
      if (shape.size() == std::min(limits_.rank, Dims::kMax))
        json_.refuse(at, "tensor " + quoted(tensor) + " has too many dimensions, the limit is " +
                             std::to_string(shape.size()));
      const std::uint64_t size = json_.whole_number();
      if (size > INT64_MAX) json_.refuse(at, "tensor " + quoted(tensor) + " has a size beyond 63 bits");
      shape.push_back(static_cast<std::int64_t>(size));
    });
    return shape;
  }

  std::pair<std::uint64_t, std::uint64_t> read_range(const std::string& tensor) {
    const std::uint64_t begin_at = json_.skip_space();
    std::array<std::uint64_t, 2> ends{};
    std::size_t count = 0;
    json_.array([&](std::uint64_t at) {
      if (count == ends.size())
        json_.refuse(at, "tensor " + quoted(tensor) + " has more than two data_offsets");
      ends[count++] = json_.whole_number();
    });
    if (count != ends.size() || ends[0] > ends[1])
      json_.refuse(begin_at,
                   "data_offsets of tensor " + quoted(tensor) + " are no range, expected [begin, end]");
    return {ends[0], ends[1]};
  }

  JsonReader json_;
  const Limits& limits_;
};

/// Unique names, ranges as long as their tensors, and all of the data covered exactly once.
void check(const Section& header, const std::deque<Placed>& tensors, std::uint64_t data_size) {
  std::vector<const Placed*> sorted;
  for (const Placed& tensor : tensors) sorted.push_back(&tensor);

  std::sort(sorted.begin(), sorted.end(), [](const Placed* a, const Placed* b) { return a->name < b->name; });
  for (std::size_t i = 1; i < sorted.size(); ++i)
    if (sorted[i]->name == sorted[i - 1]->name)
      header.refuse(std::max(sorted[i]->at, sorted[i - 1]->at),
                    "tensor " + quoted(sorted[i]->name) + " appears twice");

  std::sort(sorted.begin(), sorted.end(),
            [](const Placed* a, const Placed* b) { return a->range < b->range; });
  std::uint64_t covered = 0;
  for (const Placed* tensor : sorted) {
    const auto [begin, end] = *tensor->range;
    const std::string where =
        "range " + std::to_string(begin) + ".." + std::to_string(end) + " of tensor " + quoted(tensor->name);
    std::uint64_t count = 0, bytes = 0;
    if (!checked_numel(*tensor->shape, count) ||
        __builtin_mul_overflow(count, item_size(*tensor->type), &bytes))
      header.refuse(tensor->at, "shape " + to_string(*tensor->shape) + " of tensor " + quoted(tensor->name) +
                                    " overflows");
    if (bytes != end - begin)
      header.refuse(tensor->at, where + " does not fit its shape " + to_string(*tensor->shape) +
                                    ", expected " + std::to_string(bytes) + " bytes");
    if (begin != covered)
      header.refuse(tensor->at, where + (begin < covered ? " overlaps another" : " leaves a hole") +
                                    ", expected it to begin at " + std::to_string(covered));
    if (end > data_size)
      header.refuse(tensor->at, where + " reaches beyond the data of " + std::to_string(data_size) +
                                    " bytes; is the file truncated?");
    covered = end;
  }
  if (covered != data_size)
    header.refuse(header.size(),
                  std::to_string(data_size) + " bytes of data, the tensors need " + std::to_string(covered));
}

}  // namespace

bool is_safetensors(const MappedFile& file) {
  return file.size() > kLengthSize && file.data()[kLengthSize] == std::byte{'{'};
}

StateFile read_safetensors(const FilePtr& file, const Limits& limits) {
  const Section whole(file, "header length");
  const auto length = whole.number<std::uint64_t>(0);
  if (length > limits.json_bytes)
    whole.refuse(0, "header of " + std::to_string(length) + " bytes, the limit is " +
                        std::to_string(limits.json_bytes));
  if (length > whole.size() - kLengthSize)
    whole.refuse(0, "header of " + std::to_string(length) + " bytes in a file of " +
                        std::to_string(whole.size()) + "; is it truncated?");

  const Section text = whole.part("header", kLengthSize, length);
  Header header(text, limits);
  header.read();
  const std::uint64_t data_begin = kLengthSize + length;
  check(text, header.tensors, file->size() - data_begin);

  StateFile result{{}, std::move(header.metadata), "safetensors"};
  for (Placed& tensor : header.tensors) {
    std::uint64_t count = 0;
    checked_numel(*tensor.shape, count);
    result.tensors.emplace_back(
        std::move(tensor.name),
        Tensor::view_of(load(file, data_begin + tensor.range->first, count, *tensor.type), 0, *tensor.shape,
                        dense_strides(*tensor.shape), read_as(*tensor.type)));
  }
  return result;
}

}  // namespace grapnel::weights
