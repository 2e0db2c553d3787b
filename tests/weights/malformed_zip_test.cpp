// Zip archives made wrong in one place each: the refusal must say what and where.
#include <doctest/doctest.h>

#include <functional>

#include "weights/builders.h"

namespace grapnel::testing {
namespace {

/// The good archive, changed.
std::string zip_with(const std::function<void(Zip&)>& change) {
  Zip zip(torch_entries(good_body()));
  change(zip);
  return zip.bytes;
}

}  // namespace

TEST_CASE("malformed zip archives") {
  const std::string good = torch_zip(good_body());
  Entries twice = torch_entries(good_body());
  twice.push_back(twice[1]);
  auto second_root = torch_entries(good_body());
  second_root.push_back({"b/data.pkl", "."});
  auto no_data = torch_entries(good_body());
  no_data.erase(no_data.begin() + 1);
  auto short_data = torch_entries(good_body());
  short_data[1].second.pop_back();
  auto long_data = torch_entries(good_body());
  long_data[1].second += "....";
  auto big_endian = torch_entries(good_body());
  big_endian.push_back({"a/byteorder", "big"});
  auto script = torch_entries("not even a pickle");
  script.push_back({"a/code/__torch__.py", "import os"});
  auto constants = torch_entries("not even a pickle");
  constants.push_back({"a/constants.pkl", ""});
  auto trailing = torch_entries(good_body());
  trailing[0].second += "N.";
  auto long_name = torch_entries(good_body());
  long_name.push_back({std::string(2000, 'n'), ""});

  const Entries one_with_long_name{{"a/" + std::string(100, 'n'), ""}};
  const Zip one(one_with_long_name);

  ScratchFile file(good);
  CHECK(weights::read(file.path()).tensors.at(0).second.to_vector<float>() == std::vector<float>{1, 2, 3, 4});

  check_refused({
      {"only the first header", good.substr(0, 30), "end records", "no end of central directory"},
      {"bytes after the end", good + "x", "end records", "no end of central directory"},
      {"several disks", zip_with([](Zip& z) { z.put<std::uint16_t>(z.end + 4, 1); }), "end records",
       "several disks"},
      {"entries on another disk", zip_with([](Zip& z) { z.put<std::uint16_t>(z.end + 8, 2); }), "end records",
       "several disks"},
      {"zip64 record elsewhere", zip_with([](Zip& z) { z.put<std::uint64_t>(z.locator + 8, 0); }),
       "end records", "zip64 record at 0 expected"},
      {"zip64 record outside", zip_with([](Zip& z) { z.put<std::uint64_t>(z.locator + 8, ~0ull); }),
       "end records", "zip64 record at 18446744073709551615"},
      {"zip64 record of another length", zip_with([](Zip& z) { z.put<std::uint64_t>(z.end64 + 4, 45); }),
       "end records", "zip64 record at"},
      {"zip64 on several disks", zip_with([](Zip& z) { z.put<std::uint32_t>(z.end64 + 16, 1); }),
       "end records", "several disks"},
      {"zip64 locator on several disks", zip_with([](Zip& z) { z.put<std::uint32_t>(z.locator + 16, 2); }),
       "end records", "several disks"},
      {"zip64 with other counts per disk", zip_with([](Zip& z) { z.put<std::uint64_t>(z.end64 + 24, 2); }),
       "end records", "several disks"},
      {"zip64 tells another size", zip_with([](Zip& z) { z.put<std::uint64_t>(z.end64 + 40, 1); }),
       "end records", "disagree"},
      {"zip64 tells another place", zip_with([](Zip& z) { z.put<std::uint64_t>(z.end64 + 48, 1ull << 63); }),
       "end records", "disagree"},
      {"zip64 overflows", zip_with([](Zip& z) {
         z.put<std::uint32_t>(z.end + 12, ~0u).put<std::uint32_t>(z.end + 16, ~0u);
         z.put<std::uint64_t>(z.end64 + 40, ~0ull).put<std::uint64_t>(z.end64 + 48, z.central[0]);
       }),
       "end records", "expected it to end at"},
      {"directory ends early", zip_with([](Zip& z) {
         const auto size = static_cast<std::uint32_t>(z.end64 - z.central[0] - 1);
         z.put<std::uint32_t>(z.end + 12, size).put<std::uint64_t>(z.end64 + 40, size);
       }),
       "end records", "expected it to end at"},
      {"more entries than there are",
       Zip(one_with_long_name)
           .put<std::uint16_t>(one.end + 8, 2)
           .put<std::uint16_t>(one.end + 10, 2)
           .put<std::uint64_t>(one.end64 + 24, 2)
           .put<std::uint64_t>(one.end64 + 32, 2)
           .bytes,
       "central directory", "ends after 0 bytes"},
      {"fewer entries than there are", zip_with([](Zip& z) {
         z.put<std::uint16_t>(z.end + 8, 2).put<std::uint16_t>(z.end + 10, 2);
         z.put<std::uint64_t>(z.end64 + 24, 2).put<std::uint64_t>(z.end64 + 32, 2);
       }),
       "central directory", "goes on after its last entry"},
      {"65,534 entries in a small directory", zip_with([](Zip& z) {
         z.put<std::uint16_t>(z.end + 8, 65534).put<std::uint16_t>(z.end + 10, 65534);
         z.put<std::uint64_t>(z.end64 + 24, 65534).put<std::uint64_t>(z.end64 + 32, 65534);
       }),
       "central directory", "too many for"},
      {"a billion entries", zip_with([](Zip& z) {
         z.put<std::uint16_t>(z.end + 8, 65535).put<std::uint16_t>(z.end + 10, 65535);
         z.put<std::uint64_t>(z.end64 + 24, 1 << 30).put<std::uint64_t>(z.end64 + 32, 1 << 30);
       }),
       "central directory", "1073741824 entries, the limit is 65536"},
      {"no central header", zip_with([](Zip& z) { z.put<char>(z.central[1], 'Q'); }), "central directory",
       "no central header"},
      {"compressed", zip_with([](Zip& z) {
         z.put<std::uint16_t>(z.central[1] + 10, 8).put<std::uint16_t>(z.local[1] + 8, 8);
       }),
       "central directory", "'a/data/0' is compressed (method 8)"},
      {"two sizes of a stored entry", zip_with([](Zip& z) { z.put<std::uint32_t>(z.central[1] + 20, 8); }),
       "central directory", "'a/data/0' is stored in 8 bytes, expected 16"},
      {"encrypted", zip_with([](Zip& z) { z.put<std::uint16_t>(z.central[1] + 8, 1); }), "central directory",
       "'a/data/0' is encrypted"},
      {"entry on another disk", zip_with([](Zip& z) { z.put<std::uint16_t>(z.central[1] + 34, 7); }),
       "central directory", "another disk"},
      {"name beyond the directory", zip_with([](Zip& z) { z.put<std::uint16_t>(z.central[2] + 28, 1000); }),
       "central directory", "expected 1000 here"},
      {"extra field beyond the directory",
       zip_with([](Zip& z) { z.put<std::uint16_t>(z.central[2] + 30, 60000); }), "central directory",
       "expected 60000 here"},
      {"zip64 size without a zip64 field",
       zip_with([](Zip& z) { z.put<std::uint32_t>(z.central[1] + 24, ~0u); }), "a/data/0",
       "no zip64 field has it"},
      {"a very long name", Zip(long_name).bytes, "central directory",
       "name of 2000 bytes, the limit is 1024"},
      {"local header outside", zip_with([](Zip& z) { z.put<std::uint32_t>(z.central[1] + 42, 1 << 30); }),
       "local headers", "'a/data/0' has no local header here"},
      {"local header elsewhere", zip_with([](Zip& z) {
         z.put<std::uint32_t>(z.central[1] + 42, static_cast<std::uint32_t>(z.local[1] + 1));
       }),
       "local headers", "no local header here"},
      {"local header in the directory", zip_with([](Zip& z) {
         z.put<std::uint32_t>(z.central[1] + 42, static_cast<std::uint32_t>(z.central[0]));
       }),
       "local headers", "no local header here"},
      {"another name in the local header", zip_with([](Zip& z) { z.put<char>(z.local[1] + 30, 'b'); }),
       "local headers", "disagrees"},
      {"another size in the local header", zip_with([](Zip& z) { z.put<std::uint32_t>(z.local[1] + 22, 3); }),
       "local headers", "disagrees"},
      {"another method in the local header",
       zip_with([](Zip& z) { z.put<std::uint16_t>(z.local[1] + 8, 8); }), "local headers", "disagrees"},
      {"data beyond the directory", zip_with([](Zip& z) {
         for (std::size_t at : {z.central[2] + 20, z.central[2] + 24, z.local[2] + 18, z.local[2] + 22})
           z.put<std::uint32_t>(at, 1 << 20);
       }),
       "local headers", "'a/version' of 1048576 bytes reaches beyond"},
      {"overlapping entries", zip_with([](Zip& z) {
         for (std::size_t at : {z.central[1] + 20, z.central[1] + 24, z.local[1] + 18, z.local[1] + 22})
           z.put<std::uint32_t>(at, 20);
       }),
       "end records", "two entries overlap"},
      {"one entry twice in the directory", zip_with([](Zip& z) {
         z.put<std::uint32_t>(z.central[2] + 42, static_cast<std::uint32_t>(z.local[1]));
       }),
       "local headers", "disagrees"},
      {"two entries of one name", Zip(twice).bytes, "end records", "two entries are named 'a/data/0'"},
      {"two pickles", Zip(second_root).bytes, "central directory", "a second data.pkl"},
      {"no pickle", Zip(Entries{{"a/version", "3"}}).bytes, "central directory", "without data.pkl"},
      {"pickle at the top", Zip(Entries{{"data.pkl", "."}}).bytes, "central directory", "without data.pkl"},
      {"pickle too deep", Zip(Entries{{"a/b/data.pkl", "."}}).bytes, "central directory", "without data.pkl"},
      {"storage missing", Zip(no_data).bytes, "a/data.pkl",
       "storage '0' expected in 'a/data/0', no such entry"},
      {"storage too short", Zip(short_data).bytes, "a/data.pkl", "'a/data/0' holds 15 bytes, expected 16"},
      {"storage too long", Zip(long_data).bytes, "a/data.pkl", "'a/data/0' holds 20 bytes, expected 16"},
      {"big-endian", Zip(big_endian).bytes, "a/byteorder", "byte order 'big', expected 'little'"},
      {"TorchScript code", Zip(script).bytes, "central directory",
       "a TorchScript archive (it holds 'a/code/__torch__.py')"},
      {"TorchScript constants", Zip(constants).bytes, "central directory", "torch.jit.load"},
      {"bytes after the pickle", Zip(trailing).bytes, "a/data.pkl", "goes on after its pickle"},
  });
}

}  // namespace grapnel::testing
