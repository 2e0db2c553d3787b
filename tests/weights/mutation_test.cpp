// What happens to every prefix and to every damaged byte of small files, and what hostile files cost.
#include <doctest/doctest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "weights/builders.h"

namespace {

std::atomic<std::size_t> heap_now{0}, heap_peak{0};

}  // namespace

// Counts what this program holds on the heap.
void* operator new(std::size_t bytes) {
  void* block = std::malloc(bytes);
  if (!block) throw std::bad_alloc();
  const std::size_t now = heap_now += malloc_usable_size(block);
  if (now > heap_peak) heap_peak = now;
  return block;
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return operator new(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* block) noexcept {
  heap_now -= malloc_usable_size(block);
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept {
  operator delete(block);
}

namespace grapnel::testing {

TEST_CASE("every prefix of a small file is refused") {
  for (const char* name : {"notes.zip.pt", "python2.legacy.pt", "written.safetensors"}) {
    CAPTURE(name);
    const std::string good = read_bytes(golden(name));
    ScratchFile file(good);
    CHECK(refusal(file.path()) == "");
    for (std::size_t size = good.size(); size-- > 0;) {
      file.truncate(size);
      CAPTURE(size);
      CHECK(refusal(file.path()).starts_with(file.path() + ": "));
    }
  }
}

TEST_CASE("a damaged byte is refused or changes values, never more") {
  for (const char* name : {"notes.zip.pt", "python2.legacy.pt", "written.safetensors"}) {
    const std::string good = read_bytes(golden(name));
    ScratchFile file(good);
    int refused = 0, read = 0;
    for (std::size_t at = 0; at < good.size(); ++at) {
      const auto byte = static_cast<unsigned char>(good[at]);
      for (const unsigned changed : {byte ^ 1u, byte ^ 2u, byte ^ 4u, byte ^ 8u, byte ^ 16u, byte ^ 32u,
                                     byte ^ 64u, byte ^ 128u, 0u, 255u, byte + 1u}) {
        file.put(at, std::string(1, static_cast<char>(changed)));
        // Anything but a FileError ends the test.
        (refusal(file.path()).empty() ? read : refused) += 1;
      }
      file.put(at, good.substr(at, 1));
    }
    CAPTURE(name);
    CHECK(refused > read / 10);
    CHECK(refusal(file.path()) == "");
  }
}

TEST_CASE("a hostile file costs little memory before it is refused") {
  std::string names = "{\"__metadata__\":{", tensors = "{", many = "}";
  std::string storages = '(' + text("storage") + "q\x01" + global("torch", "FloatStorage") + "q\x02t";
  for (int i = 0; i < 1200000; ++i) names += '"' + std::to_string(i) + "\":\"\",";
  for (int i = 0; i < 70000; ++i)
    tensors +=
        '"' + std::to_string(i) + R"(":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1],"data_offsets":[0,1]},)";
  for (int i = 0; i < 60000; ++i)
    many += text(std::to_string(i)) + (i == 0 ? good_tensor() + "q\x01" : "h\x01") + 's';
  for (int i = 0; i < 30000; ++i) storages += "(h\x01h\x02" + text(std::to_string(i)) + "h\x01K\x04tQ";
  Entries entries = torch_entries("(" + storages + "t");
  for (int i = 0; i < 65000; ++i) entries.push_back({"a/data/x" + std::to_string(i), ""});

  const std::vector<std::pair<std::string, std::string>> table{
      {"a million metadata strings", safetensors(names)},
      {"70,000 tensors", safetensors(tensors)},
      {"dictionaries without end", torch_zip("(" + repeat("}", 900000))},
      {"tuples without end", torch_zip(repeat(")(", 400000))},
      {"a growing list", torch_zip("]" + repeat("Na", 400000))},
      {"60,000 tensors, the last one bad",
       torch_zip(many + text("z") + tensor(storage("0", 4), 4, {1}, {1}) + "s")},
      {"65,000 entries and 30,000 storages", Zip(entries).bytes},
      {"a text of 4 GiB", torch_zip("X" + bytes_of<std::uint32_t>(~0u))},
  };
  ScratchFile file;
  for (const auto& [name, bytes] : table) {
    const std::string what = name;
    CAPTURE(what);
    file.write(bytes);
    const std::size_t before = heap_now;
    heap_peak = before;
    CHECK(refusal(file.path()) != "");
    CHECK(heap_peak - before <= (16u << 20));
    CHECK(heap_now - before <= 64);
  }
}

}  // namespace grapnel::testing
