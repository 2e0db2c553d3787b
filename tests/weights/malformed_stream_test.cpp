// Legacy streams and safetensors files made wrong in one place each.
#include <doctest/doctest.h>

#include <functional>

#include "weights/builders.h"

namespace grapnel::testing {
namespace {

/// The good stream, changed.
std::string legacy_with(const std::function<void(Legacy&)>& change) {
  Legacy legacy;
  change(legacy);
  return legacy.bytes();
}

/// The description of a tensor.
std::string info(const std::string& type, const std::string& shape, const std::string& range) {
  return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + range + "}";
}

/// A file with one tensor of float32, and this many bytes of data.
std::string one(const std::string& shape, const std::string& range, std::size_t bytes = 8) {
  return safetensors(R"({"x":)" + info("F32", shape, range) + "}", std::string(bytes, '\0'));
}

Bad header(const std::string& what, const std::string& json, const std::string& reason,
           std::size_t bytes = 0) {
  return {what, safetensors(json, std::string(bytes, '\0')), "header", reason};
}

}  // namespace

TEST_CASE("malformed legacy streams") {
  ScratchFile file(Legacy().bytes());
  CHECK(weights::read(file.path()).tensors.at(0).second.to_vector<float>() == std::vector<float>{1, 2, 3, 4});

  const auto with = [](auto change) { return legacy_with(change); };
  check_refused({
      {"another protocol", with([](Legacy& l) { l.protocol = pickle(integer(1000)); }), "protocol version",
       "protocol version 1000, expected 1001"},
      {"a text for the protocol", with([](Legacy& l) { l.protocol = pickle(text("1001")); }),
       "protocol version", "protocol version '1001'"},
      {"a number for the system", with([](Legacy& l) { l.system = pickle("K\x01"); }), "system",
       "expected a dictionary about the system, got 1"},
      {"a big-endian system", with([](Legacy& l) {
         l.system = pickle(dictionary({{"little_endian", "\x89"}}));
       }),
       "system", "big-endian"},
      {"a command for the object",
       with([](Legacy& l) { l.object = pickle(global("os", "system") + text("true") + "\x85R"); }), "object",
       "'os.system'"},
      {"a command for the keys",
       with([](Legacy& l) { l.keys = pickle(global("os", "system") + text("true") + "\x85R"); }),
       "storage keys", "'os.system'"},
      {"a dictionary for the keys", with([](Legacy& l) { l.keys = pickle("}"); }), "storage keys",
       "expected a list of storage keys, got a dictionary"},
      {"a number for a key", with([](Legacy& l) {
         l.keys = pickle(
             "]K\x07"
             "a");
       }),
       "storage keys", "storage key 7 belongs to no tensor"},
      {"a key of no tensor", with([](Legacy& l) { l.keys = pickle("](" + text("0") + text("9") + "e"); }),
       "storage keys", "storage key '9' belongs to no tensor"},
      {"a key twice", with([](Legacy& l) { l.keys = pickle("](" + text("0") + text("0") + "e"); }),
       "storage keys", "storage key '0' is listed twice"},
      {"a key missing", with([](Legacy& l) { l.keys = pickle("]"); }), "object",
       "storage '0' is not in the list"},
      {"another number of elements", with([](Legacy& l) { l.data.replace(0, 8, bytes_of<std::int64_t>(5)); }),
       "storages", "storage '0' has 5 elements, expected 4"},
      {"a negative number of elements",
       with([](Legacy& l) { l.data.replace(0, 8, bytes_of<std::int64_t>(-4)); }), "storages", "expected 4"},
      {"data that ends early", with([](Legacy& l) { l.data.pop_back(); }), "storages",
       "ends after 15 bytes, expected 16"},
      {"data that goes on", with([](Legacy& l) { l.data += "xyz"; }), "storages",
       "3 bytes after the last storage"},
      {"a storage larger than memory", with([](Legacy& l) {
         l.object = pickle(dictionary({{"x", tensor(storage("0", 1LL << 60), 0, {1}, {1})}}));
         l.data.replace(0, 8, bytes_of<std::int64_t>(1LL << 60));
       }),
       "storages", "expected 4611686018427387904 here"},
      {"a tensor outside its storage", with([](Legacy& l) {
         l.object = pickle(dictionary({{"x", tensor(storage("0", 4), 1, {4}, {1})}}));
       }),
       "object", "reaches outside"},
  });
}

TEST_CASE("malformed safetensors") {
  ScratchFile file;
  for (const std::string& good :
       {one("[2]", "[0,8]"),
        safetensors("{ \"x\" :" + info("F32", " [ 2 ] ", "[ 0 , 8 ]") + "} \n\t ", std::string(8, '\0')),
        safetensors("{}  "), safetensors(R"({"__metadata__":{}})")}) {
    file.write(good);
    CAPTURE(good);
    CHECK(refusal(file.path()) == "");
  }

  const std::string x = R"("x":)" + info("F32", "[1]", "[0,4]"), y = R"("y":)" + info("F32", "[1]", "[4,8]");
  check_refused({
      {"a header longer than the file", bytes_of<std::uint64_t>(100) + "{}", "header length",
       "header of 100 bytes in a file of 10"},
      {"a header of 17 MiB", bytes_of<std::uint64_t>(17 << 20) + "{}", "header length",
       "the limit is 16777216"},
      {"a header of 2^64-1 bytes", bytes_of<std::uint64_t>(~0ull) + "{}", "header length",
       "18446744073709551615 bytes"},
      {"a header of no bytes", bytes_of<std::uint64_t>(0) + "{}", "header",
       "the JSON has the end, expected an object"},
      header("a header cut short", "{\"x", "the JSON has the end, expected the end of a string"),
      header("an open object", "{", "the JSON has the end, expected a string"),
      header("a missing colon", "{\"x\" 1}", "the JSON has '1', expected ':'"),
      header("a comma at the end", "{" + x + ",}", "the JSON has '}', expected a string", 4),
      header("a missing comma", "{" + x + y + "}", "expected ',' or '}'", 8),
      header("two objects", "{}{}", "nothing after the object but spaces"),
      header("zeros behind the object", std::string("{}\0\0", 4), "the JSON has '\\x00', expected nothing"),
      header("a name without quotes", "{x:1}", "the JSON has 'x', expected a string"),
      header("a control character in a name", "{\"a\nb\":1}",
             "the JSON has '\\x0a', expected the end of a string"),
      header("an unknown escape", "{\"\\x\":1}", "unknown escape"),
      header("an escape without digits", "{\"\\u12g4\":1}", "expected four hexadecimal digits"),
      header("half of a surrogate pair", "{\"\\ud800x\":1}", "half of a surrogate pair"),
      header("the wrong half first", "{\"\\udc00\\ud800\":1}", "half of a surrogate pair"),
      header("a name that is no UTF-8", "{\"\xc0\x80\":1}", "is not UTF-8"),
      header("a name cut inside a character", "{\"\xe2\x82\":1}", "is not UTF-8"),
      header("a number for a tensor", R"({"x":1})", "expected an object"),
      header("arrays in each other", R"({"x":)" + std::string(100000, '[') + "}",
             "the JSON has '[', expected an object"),
      header("objects in each other", "{" + repeat(R"("dtype":{)", 1000),
             "the JSON has '{', expected a string"),
      header("metadata that is no object", R"({"__metadata__":[]})", "expected an object"),
      header("metadata that is no text", R"({"__metadata__":{"a":1}})", "expected a string"),
      header("metadata twice", R"({"__metadata__":{},"__metadata__":{}})", "'__metadata__' appears twice"),
      header("one metadata name twice", R"({"__metadata__":{"a":"","a":""}})", "metadata 'a' appears twice"),
      header("a tensor twice", "{" + x + "," + x + "}", "tensor 'x' appears twice", 4),
      header("a tensor twice, once escaped", "{" + x + R"(,"\u0078":)" + info("F32", "[1]", "[4,8]") + "}",
             "tensor 'x' appears twice", 8),
      header("no dtype", R"({"x":{"shape":[1],"data_offsets":[0,4]}})", "lacks dtype", 4),
      header("no shape", R"({"x":{"dtype":"F32","data_offsets":[0,4]}})", "lacks dtype", 4),
      header("no range", R"({"x":{"dtype":"F32","shape":[1]}})", "lacks dtype", 4),
      header("two shapes", R"({"x":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})",
             "has 'shape' twice", 4),
      header("an unknown field", R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":[1]}})",
             "has 'stride', expected", 4),
      header("an unknown type", R"({"x":)" + info("F8_E4M3", "[4]", "[0,4]") + "}",
             "dtype 'F8_E4M3', expected one of", 4),
      header("a type in lower case", R"({"x":)" + info("f32", "[1]", "[0,4]") + "}", "dtype 'f32'", 4),
      {"a negative size", one("[-2]", "[0,8]"), "header", "the JSON has '-', expected a whole number"},
      {"a fraction", one("[2.0]", "[0,8]"), "header", "the JSON has '.', expected a whole number"},
      {"an exponent", one("[2e0]", "[0,8]"), "header", "the JSON has 'e', expected a whole number"},
      {"a leading zero", one("[02]", "[0,8]"), "header",
       "expected a whole number without sign, leading zeros"},
      {"a size beyond 64 bits", one("[18446744073709551616]", "[0,8]"), "header", "beyond 64 bits"},
      {"a size beyond 63 bits", one("[9223372036854775808]", "[0,8]"), "header", "beyond 63 bits"},
      {"nine dimensions", one("[1,1,1,1,1,1,1,1,2]", "[0,8]"), "header",
       "too many dimensions, the limit is 8"},
      {"a product that overflows", one("[4294967296,4294967296]", "[0,8]"), "header", "overflows"},
      {"a product that wraps around to the right size", one("[9223372036854775807,2,2]", "[0,8]"), "header",
       "overflows"},
      {"bytes that overflow", one("[4611686018427387904]", "[0,8]"), "header", "overflows"},
      {"an overflow behind a zero", one("[0,9223372036854775807,9223372036854775807]", "[0,0]", 0), "header",
       "overflows"},
      {"a shape larger than its range", one("[3]", "[0,8]"), "header",
       "does not fit its shape (3,), expected 12 bytes"},
      {"a shape smaller than its range", one("[1]", "[0,8]"), "header", "expected 4 bytes"},
      {"a range backwards", one("[0]", "[8,0]"), "header", "are no range"},
      {"a range of one number", one("[2]", "[8]"), "header", "are no range"},
      {"a range of three numbers", one("[2]", "[0,8,8]"), "header", "more than two data_offsets"},
      {"a range beyond the file", one("[2]", "[0,8]", 7), "header", "reaches beyond the data of 7 bytes"},
      {"a range far beyond the file", one("[2]", "[18446744073709551607,18446744073709551615]"), "header",
       "leaves a hole"},
      {"a range that begins late", one("[1]", "[4,8]"), "header", "leaves a hole, expected it to begin at 0"},
      {"bytes after the last range", one("[1]", "[0,4]"), "header", "8 bytes of data, the tensors need 4"},
      header("a hole between ranges", "{" + x + R"(,"y":)" + info("F32", "[1]", "[8,12]") + "}",
             "leaves a hole, expected it to begin at 4", 12),
      header("ranges that overlap", "{" + x + R"(,"y":)" + info("F32", "[1]", "[2,6]") + "}",
             "overlaps another, expected it to begin at 4", 6),
      header("two tensors in one place", "{" + x + R"(,"y":)" + info("F32", "[1]", "[0,4]") + "}",
             "overlaps another", 4),
      header("an empty tensor in another's middle", "{" + x + R"(,"y":)" + info("F32", "[0]", "[2,2]") + "}",
             "overlaps another", 4),
  });
}

TEST_CASE("all the escapes of JSON") {
  ScratchFile file(safetensors(R"({"__metadata__":{"\u0061\"\\\/\b\f\n\r\t":"\u00e9\u20ac\ud83d\udc0c"}})"));
  const auto metadata = weights::read(file.path()).metadata;
  REQUIRE(metadata.size() == 1);
  CHECK(metadata.begin()->first == "a\"\\/\b\f\n\r\t");
  CHECK(metadata.begin()->second == "\u00e9\u20ac\U0001f40c");
}

TEST_CASE("safetensors of integer types the engine lacks") {
  ScratchFile file(safetensors("{\"a\":" + info("U32", "[1]", "[0,4]") + ",\"b\":" +
                                   info("U16", "[1]", "[4,6]") + ",\"c\":" + info("I8", "[2]", "[6,8]") + "}",
                               bytes_of<std::uint32_t>(~0u) + bytes_of<std::uint16_t>(65535) + "\xff\x01"));
  const auto tensors = weights::read(file.path()).tensors;
  CHECK(tensors.at(0).second.item() == 4294967295.0);
  CHECK(tensors.at(1).second.item() == 65535);
  CHECK(tensors.at(2).second.to_vector<std::int64_t>() == std::vector<std::int64_t>{-1, 1});
}

}  // namespace grapnel::testing
