// Files of the real libraries (golden/make_golden.py) read as they were meant.
#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "weights/files.h"

namespace grapnel::testing {
namespace {

struct Expected {
  std::string name, dtype;
  std::vector<std::int64_t> shape, strides;
  int storage;
  std::vector<double> values;
};

template <class T>
std::vector<T> split(const std::string& text) {
  std::vector<T> result;
  if (text == "-") return result;
  std::istringstream items(text);
  for (std::string item; std::getline(items, item, ',');) result.push_back(static_cast<T>(std::stod(item)));
  return result;
}

/// expected.txt, in its order.
std::vector<std::pair<std::string, std::vector<Expected>>> expectations() {
  std::vector<std::pair<std::string, std::vector<Expected>>> files;
  std::ifstream lines(golden("expected.txt"));
  for (std::string file, shape, strides, values; lines >> file;) {
    Expected tensor;
    lines >> tensor.name >> tensor.dtype >> shape >> strides >> tensor.storage >> values;
    tensor.shape = split<std::int64_t>(shape);
    tensor.strides = split<std::int64_t>(strides);
    tensor.values = split<double>(values);
    if (files.empty() || files.back().first != file) files.push_back({file, {}});
    files.back().second.push_back(std::move(tensor));
  }
  return files;
}

const Tensor& find(const weights::StateFile& state, const std::string& name) {
  for (const auto& [found, tensor] : state.tensors)
    if (found == name) return tensor;
  throw std::runtime_error("no tensor " + name);
}

/// Whether the element lies in this process's mapping of a file.
bool is_mapped(const void* address, const std::string& path) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char dash;
    std::istringstream(line) >> std::hex >> begin >> dash >> end;
    const auto value = reinterpret_cast<std::uintptr_t>(address);
    if (value >= begin && value < end) return line.ends_with(path);
  }
  return false;
}

}  // namespace

TEST_CASE("golden weight files have the names, types, layouts, sharing and values of their library") {
  const auto files = expectations();
  REQUIRE(files.size() >= 11);
  for (const auto& [path, expected] : files) {
    const std::string file = path;
    CAPTURE(file);
    const weights::StateFile state = weights::read(golden(file), {.unwrap = file.starts_with("nested")});
    const std::string kind = file.substr(file.find('.') + 1);
    CHECK(state.format == (kind == "zip.pt"      ? "torch zip"
                           : kind == "legacy.pt" ? "torch legacy"
                                                 : "safetensors"));
    const bool by_name = state.format == "safetensors";  // the library writes them sorted by size
    if (!by_name) REQUIRE(state.tensors.size() == expected.size());

    std::map<int, const void*> storages;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const Expected& wanted = expected[i];
      CAPTURE(wanted.name);
      if (!by_name) CHECK(state.tensors[i].first == wanted.name);
      const Tensor& tensor = find(state, wanted.name);
      CHECK(name(tensor.dtype()) == wanted.dtype);
      CHECK(std::vector(tensor.shape().begin(), tensor.shape().end()) == wanted.shape);
      CHECK(std::vector(tensor.strides().begin(), tensor.strides().end()) == wanted.strides);
      CHECK(tensor.to_vector<double>() == wanted.values);

      const auto [known, first] = storages.emplace(wanted.storage, tensor.storage().get());
      CHECK(known->second == tensor.storage().get());
      for (const auto& [number, other] : storages)
        if (number != wanted.storage) CHECK(other != tensor.storage().get());
    }
  }
}

TEST_CASE("metadata beside the tensors") {
  const std::map<std::string, std::string> notes{
      {"best", "None"}, {"done", "True"}, {"epoch", "7"}, {"note", "hej"}, {"rate", "0.25"}};
  CHECK(weights::read(golden("notes.zip.pt")).metadata == notes);

  const weights::StateFile state = weights::read(golden("types.safetensors"));
  CHECK(state.metadata == std::map<std::string, std::string>{{"format", "pt"}, {"note", "tab\there"}});
  CHECK(find(state, "na\u00efve \"quoted\"\\\n\U0001f40c").item() == 9);
  CHECK(state.tensors.size() == 14);
}

TEST_CASE("nested dictionaries and prefixes stay unless asked for") {
  CHECK(refusal(golden("nested.zip.pt")).find("unwrap") != std::string::npos);
  CHECK(refusal(golden("nested.legacy.pt")).find("entry 'model' is a dictionary") != std::string::npos);
  // Unwrapping leaves alone what is not wrapped.
  CHECK(weights::read(golden("net.zip.pt"), {.unwrap = true}).tensors.front().first == "0.weight");

  TemporaryFolder folder;
  const Tensor one = Tensor::ones({1});
  weights::write_safetensors(folder / "all", {{"module.a", one}, {"module.b", one}});
  CHECK(weights::read(folder / "all").tensors[0].first == "module.a");
  CHECK(weights::read(folder / "all", {.unwrap = true}).tensors[1].first == "b");
  weights::write_safetensors(folder / "some", {{"module.a", one}, {"b", one}});
  CHECK(weights::read(folder / "some", {.unwrap = true}).tensors[0].first == "module.a");
}

TEST_CASE("files that hold something else than tensors are refused with advice") {
  const std::map<std::string, std::string> words{
      {"script.zip.pt", "TorchScript archive"},    {"module.zip.pt", "save model.state_dict()"},
      {"bare.zip.pt", "the file holds a tensor"},  {"complex.zip.pt", "torch.ComplexFloatStorage"},
      {"protocol4.zip.pt", "pickle opcode 0x95"},  {"make_golden.py", "unknown format"},
      {"missing.pt", "cannot open: No such file"}, {"", "not a regular file"},
  };
  for (const auto& [path, expected] : words) {
    const std::string file = path;
    CAPTURE(file);
    const std::string message = refusal(golden(file));
    CAPTURE(message);
    CHECK(message.starts_with(golden(file)));
    CHECK(message.find(expected) != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
  }
  ScratchFile file;
  CHECK(refusal(file.path()).find("the file is empty") != std::string::npos);
  file.write(std::string(257, '\0') + "ustar" + std::string(300, '\0'));
  CHECK(refusal(file.path()).find("torch 0.1") != std::string::npos);
}

TEST_CASE("tensors see the mapped file, and writing to them leaves it alone") {
  TemporaryFolder folder;
  for (const char* file : {"net.zip.pt", "net.legacy.pt", "written.safetensors"}) {
    CAPTURE(file);
    const std::string path = folder / file, before = read_bytes(golden(file));
    std::filesystem::copy_file(golden(file), path);
    Tensor first = weights::read(path).tensors[0].second;
    CHECK(is_mapped(first.raw_data(), path));
    first.fill_(42);
    CHECK(first.to_vector<double>() == std::vector<double>(static_cast<std::size_t>(first.numel()), 42));
    CHECK(read_bytes(path) == before);

    const void* address = first.raw_data();
    first = {};
    CHECK_FALSE(is_mapped(address, path));
  }
}

TEST_CASE("what was read into memory no longer depends on the file") {
  TemporaryFolder folder;
  for (const char* file : {"net.zip.pt", "net.legacy.pt", "written.safetensors"}) {
    CAPTURE(file);
    const std::string path = folder / file;
    std::filesystem::copy_file(golden(file), path);
    const weights::StateFile mapped = weights::read(golden(file));
    const weights::StateFile state = weights::read(path, {.in_memory = true});
    CHECK_FALSE(is_mapped(state.tensors[0].second.raw_data(), path));
    std::filesystem::resize_file(path, 0);
    REQUIRE(state.tensors.size() == mapped.tensors.size());
    for (std::size_t i = 0; i < state.tensors.size(); ++i) {
      CHECK(state.tensors[i].first == mapped.tensors[i].first);
      CHECK(state.tensors[i].second.to_vector<double>() == mapped.tensors[i].second.to_vector<double>());
    }
  }
}

TEST_CASE("elements at odd addresses are copied, and equal") {
  // One more letter in a name moves all data of a legacy stream by one byte.
  std::string bytes = read_bytes(golden("python2.legacy.pt"));
  const auto at = bytes.find(
      "U\x04"
      "bias");
  REQUIRE(at != bytes.npos);
  for (int shift = 0; shift < 8; ++shift) {
    CAPTURE(shift);
    bytes.replace(at, 6 + static_cast<std::size_t>(shift ? shift - 1 : 0),
                  std::string{'U', static_cast<char>(4 + shift)} + "bias" +
                      std::string(static_cast<std::size_t>(shift), 'x'));
    ScratchFile file(bytes);
    const weights::StateFile state = weights::read(file.path());
    CHECK(state.tensors[0].second.to_vector<double>() == std::vector<double>{0, 1, 2, 3, 4, 5});
    CHECK(state.tensors[1].second.item() == 8589934592.0);
    for (const auto& [name, tensor] : state.tensors)
      CHECK(reinterpret_cast<std::uintptr_t>(tensor.raw_data()) % item_size(tensor.dtype()) == 0);
  }
}

}  // namespace grapnel::testing
