// Pickles that ask for too much, and tensors that do not fit their storages.
#include <doctest/doctest.h>

#include "weights/builders.h"

namespace grapnel::testing {
namespace {

Bad body(const std::string& what, const std::string& pickled, const std::string& reason) {
  return {what, torch_zip(pickled), "a/data.pkl", reason};
}

/// A dictionary with this value.
Bad value(const std::string& what, const std::string& pickled, const std::string& reason) {
  return body(what, dictionary({{"x", pickled}}), reason);
}

std::string call(const std::string& function, const std::string& arguments) {
  return global("torch._utils", function) + '(' + arguments + "tR";
}

/// A storage of four floats, as a persistent id with these parts.
std::string id(const std::string& parts) {
  return tensor('(' + parts + "tQ", 0, {1}, {1});
}

}  // namespace

TEST_CASE("malformed pickles") {
  const std::string dict = global("collections", "OrderedDict");
  check_refused({
      body("INST, an old way to call", "i", "pickle opcode 0x69 is not allowed"),
      body("FRAME of protocol 4", "\x95" + bytes_of<std::uint64_t>(1), "pickle opcode 0x95"),
      body("STACK_GLOBAL", "\x93", "pickle opcode 0x93"),
      body("EXT1", "\x82\x01", "pickle opcode 0x82"),
      body("BINBYTES", "B" + bytes_of<std::uint32_t>(~0u), "pickle opcode 0x42"),
      body("POP", "N0", "pickle opcode 0x30"),
      body("a zero byte", std::string(1, '\0'), "pickle opcode 0x00"),
      body("a shell command", global("os", "system") + text("true") + "\x85R",
           "'os.system', which is never loaded"),
      body("eval", global("builtins", "eval") + text("1") + "\x85R", "'builtins.eval'"),
      body("torch.load", global("torch", "load"), "'torch.load'"),
      body("module and name not apart", global("collections.OrderedDict", ""), "'collections.OrderedDict.'"),
      body("module and name as one", global("torch Size", ""), "'torch Size.'"),
      body("control characters in a name", global("a\x1b[31m", "b"), "'a\\x1b[31m.b'"),
      body("an endless name", "c" + std::string(5000, 'm'), "a name of more than 256 bytes"),
      body("a name without end", "ctorch", "ends after 0 bytes"),
      body("a storage made by a call", global("torch", "FloatStorage") + "(tR", "calls a storage class"),
      body("a text called", text("f") + ")R", "calls something else than a function"),
      body("a call without arguments", dict + "NR", "calls something else than a function"),
      body("OrderedDict of a number", dict + "(K\x01tR", "OrderedDict of something else"),
      body("OrderedDict of two lists", dict + "(]]tR", "OrderedDict of something else"),
      body("OrderedDict of a list of numbers",
           dict + "](K\x01"
                  "e\x85R",
           "something else than pairs"),
      body("OrderedDict of a list of triples",
           dict + "]K\x01K\x02K\x03\x87"
                  "a\x85R",
           "something else than pairs"),
      body("Size of a number", global("torch", "Size") + "K\x01\x85R", "torch.Size of something else"),
      body("a call on an empty stack", "R", "takes a value that is not there"),
      body("a value below the mark", "N(R", "takes a value that is not there"),
      body("a tuple without a mark", "t", "goes back to a mark that is not there"),
      body("entries without a mark", "}u", "goes back to a mark that is not there"),
      body("entries for a list", "](K\x01K\x02u", "something else than a dictionary"),
      body("a name without a value", "}(K\x01u", "half an entry"),
      body("an element for a dictionary",
           "}K\x01"
           "a",
           "something else than a list"),
      body("memo of nothing", "q\x01", "remembers a value that is not there"),
      body("memo of a value below the mark", "N(q\x01", "remembers a value that is not there"),
      body("an empty memo", "h\x07", "memo 7 is used before it is set"),
      body("a hole in the memo", "}q\x02h\x01", "memo 1 is used before it is set"),
      body("a memo number too large", "}r" + bytes_of<std::uint32_t>(100000),
           "memo 100000, the limit is 100000"),
      body("a memo number of 32 bits", "}r" + bytes_of<std::uint32_t>(~0u), "memo 4294967295"),
      body("two values at the end", "K\x01K\x02", "ends with 2 values, expected one"),
      body("no value at the end", "", "ends with 0 values, expected one"),
      body("an open mark at the end", "}(", "ends with 1 values, expected one"),
      body("attributes of a number", "K\x01Nb", "gives attributes to something else"),
      body("a number as persistent id", "K\x01Q", "a persistent id that is no tuple"),
      body("an integer of nine bytes", "\x8a\x09" + std::string(9, '\1'), "an integer of 9 bytes"),
      body("a text longer than the file", "X" + bytes_of<std::uint32_t>(~0u) + "abc",
           "expected 4294967295 here"),
      body("a short text longer than the file",
           "U\xff"
           "abc",
           "expected 255 here"),
      body("65 marks", repeat("(", 65), "nested deeper than 64"),
      body("65 tuples in each other", ")" + repeat("\x85", 65), "nested deeper than 64"),
      body("a million tuples in each other", "N" + repeat("\x85", 999990), "nested deeper than 64"),
      body("a list that holds itself, again and again",
           "]q\x01" + repeat("h\x01"
                             "a",
                             100),
           "nested deeper than 64"),
      body("400,000 dictionaries", "(" + repeat("}", 400000) + "t", "need more memory than the limit"),
      body("a million values", repeat("N", 999990), "need more memory than the limit"),
      body("a million appended", "]" + repeat("Na", 499990), "need more memory than the limit"),
      body("a tuple copied again and again", "(" + repeat("N", 1000) + "tq\x01" + repeat("h\x01Q", 5000),
           "need more memory"),
      body("too many opcodes", "}" + repeat("q\x01", 1000000), "more opcodes than the limit of 1000000"),
      body("too many bytes", text(std::string(17 << 20, 'x')), "bytes, the limit is 16777216"),
      body("nothing", "N", "the file holds None, expected a dictionary of tensors"),
      body("a list",
           "](K\x01"
           "e",
           "the file holds a list"),
      body("a text", text("hello"), "the file holds 'hello'"),
      body("a set", "\x8f", "the file holds a set"),
  });
}

TEST_CASE("malformed states") {
  const std::string four = storage("0", 4), names = text("storage") + global("torch", "FloatStorage");
  const std::int64_t huge = INT64_MAX;
  std::string many = "}";
  for (int i = 0; i <= 65536; ++i) many += text(std::to_string(i)) + "Ns";

  check_refused({
      value("offset behind the storage", tensor(four, 4, {1}, {1}),
            "offset 4 reaches outside its storage of 4 elements"),
      value("too many elements", tensor(four, 0, {5}, {1}), "tensor 'x' of shape (5,), strides (1,)"),
      value("one element too far", tensor(four, 1, {2, 2}, {2, 1}), "reaches outside"),
      value("strides too large", tensor(four, 0, {2, 2}, {3, 1}), "reaches outside"),
      value("negative stride", tensor(four, 3, {4}, {-1}), "stride is -1, expected an integer, not negative"),
      value("negative size", tensor(four, 0, {-1}, {1}), "size is -1"),
      value("negative offset", tensor(four, -1, {1}, {1}), "offset is -1"),
      value("sizes that overflow", tensor(four, 0, {1LL << 32, 1LL << 32}, {0, 0}), "overflows"),
      value("sizes that overflow behind a zero", tensor(four, 0, {0, huge, huge}, {1, 1, 1}), "overflows"),
      value("strides that overflow", tensor(four, 0, {3, 2}, {huge, 1}), "reaches outside"),
      value("strides that wrap around to zero", tensor(four, 0, {5, 5}, {1LL << 62, 1LL << 62}),
            "reaches outside"),
      value("an offset that wraps around", tensor(four, huge, {2}, {huge}), "reaches outside"),
      value("an empty tensor far away", tensor(four, 5, {0}, {1}), "reaches outside"),
      value("nine dimensions", tensor(four, 0, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}),
            "has 9 dimensions, the limit is 8"),
      value("fewer strides than sizes", tensor(four, 0, {2, 2}, {1}), "has 2 sizes, but 1 strides"),
      value("one element pretending to be a billion", tensor(four, 0, {1 << 30}, {0}), "repeats elements"),
      value("a size that is a text", call("_rebuild_tensor", four + "K\x01" + text("s") + ")"),
            "size is 's', expected a tuple"),
      value("a size of texts", call("_rebuild_tensor", four + "K\x01" + text("s") + "\x85)"),
            "size is 's', expected an integer"),
      value("no storage", call("_rebuild_tensor", "NK\x01))"), "tensor 'x' has None, expected a storage"),
      value("three arguments", call("_rebuild_tensor", four + "K\x01)"), "3 arguments, expected 4"),
      value("five arguments", call("_rebuild_tensor_v2", four + "K\x01))\x89"), "5 arguments, expected 4"),
      value("six arguments for the old function", call("_rebuild_tensor", four + "K\x01))\x89}"),
            "6 arguments, expected 4"),
      value("a conjugate view",
            call("_rebuild_tensor_v2", four + "K\x01))\x89}" + dictionary({{"conj", "\x88"}})), "conjugate"),
      value("a parameter of nothing", call("_rebuild_parameter", ""), "a parameter without a tensor"),
      value("a parameter of a number", call("_rebuild_parameter", "K\x01\x88}"),
            "a parameter without a tensor"),
      value("a parameter of a parameter",
            call("_rebuild_parameter", call("_rebuild_parameter", good_tensor())), "1 arguments, expected 4"),
      value("a list", "]", "entry 'x' is a list, expected a tensor"),
      value("a dictionary", good_body(), "entry 'x' is a dictionary, expected a tensor"),
      value("a storage", four, "entry 'x' is a storage, expected a tensor"),
      value("a class", global("torch", "Size"), "entry 'x' is a class or function"),
      body("a wrapped dictionary", dictionary({{"state_dict", good_body()}}), "option to unwrap"),
      body("a name twice", dictionary({{"x", good_tensor()}, {"x", good_tensor()}}),
           "entry 'x' appears twice"),
      body("a number for a name", "}(K\x07" + good_tensor() + "u", "a tensor is named 7, expected text"),
      body("a name that is no UTF-8", dictionary({{"\xff\xfe", good_tensor()}}),
           "name '\\xff\\xfe' is not UTF-8"),
      body("65,537 entries", many, "65537 entries, the limit is 65536"),
      body("one long text under three names",
           dictionary({{"a", text(std::string(10000, 't')) + "q\x01"}, {"b", "h\x01"}, {"c", "h\x01"}}),
           "texts beyond the size of the pickle"),

      value("an id that names a module",
            id(text("module") + global("torch", "FloatStorage") + text("0") + text("cpu") + "K\x04"),
            "unknown persistent id"),
      value("an id of four parts", id(names + text("0") + text("cpu")), "unknown persistent id"),
      value("an id of seven parts", id(names + text("0") + text("cpu") + "K\x04NN"), "unknown persistent id"),
      value("a number for a key", id(names + "K\x01" + text("cpu") + "K\x04"), "unknown persistent id"),
      value("a very long key", id(names + text(std::string(1000, '0')) + text("cpu") + "K\x04"),
            "unknown persistent id"),
      value("a type without elements", tensor(storage("0", 4, "Size"), 0, {1}, {1}),
            "storage '0' has no known element type"),
      value("a text for a type",
            id(text("storage") + text("FloatStorage") + text("0") + text("cpu") + "K\x04"),
            "no known element type"),
      value("a text for the number of elements", id(names + text("0") + text("cpu") + text("4")),
            "number of elements is '4'"),
      value("a negative number of elements", tensor(storage("0", -4), 0, {1}, {1}),
            "number of elements is -4"),
      value("more bytes than 64 bits count", tensor(storage("0", huge), 0, {1}, {1}), "overflows"),
      value("another number of elements", tensor(storage("0", 5), 0, {1}, {1}),
            "holds 16 bytes, expected 20"),
      value("another type", tensor(storage("0", 4, "HalfStorage"), 0, {1}, {1}),
            "holds 16 bytes, expected 8"),
      value("a storage that is elsewhere", tensor(storage("1", 4), 0, {1}, {1}),
            "expected in 'a/data/1', no such entry"),
      value("a key that climbs out", tensor(storage("../version", 4), 0, {1}, {1}),
            "expected in 'a/data/../version', no such entry"),
      value("a view of a storage that is a number", id(names + text("0") + text("cpu") + "K\x04K\x01"),
            "unknown view"),
      value("a view outside its storage",
            id(names + text("0") + text("cpu") + "K\x04" + text("v") + "K\x03K\x02\x87"),
            "view that reaches outside its storage"),
      value("a tensor outside its view",
            tensor('(' + names + text("0") + text("cpu") + "K\x04" + text("v") + "K\x02K\x02\x87tQ", 0, {3},
                   {1}),
            "its storage of 2 elements"),
      body("one storage with two types",
           dictionary({{"x", good_tensor()}, {"y", tensor(storage("0", 2, "DoubleStorage"), 0, {1}, {1})}}),
           "storage '0' is announced twice, differently"),
  });
}

TEST_CASE("a dictionary may hold itself") {
  ScratchFile file(torch_zip("}q\x01" + text("model") + "h\x01s"));
  CHECK(refusal(file.path()).find("entry 'model' is a dictionary") != std::string::npos);
  CHECK(refusal(file.path(), {.unwrap = true}).find("entry 'model' is a dictionary") != std::string::npos);
}

TEST_CASE("limits are options") {
  const auto refused = [](auto change, const std::string& bytes) {
    weights::ReadOptions options;
    change(options.limits);
    ScratchFile file(bytes);
    CHECK(refusal(file.path()) == "");
    return refusal(file.path(), options);
  };
  const std::string good = torch_zip(good_body());
  CHECK(refused([](auto& limits) { limits.pickle_opcodes = 10; }, good)
            .find("more opcodes than the limit of 10") != std::string::npos);
  CHECK(refused([](auto& limits) { limits.pickle_bytes = 64; }, good).find("the limit is 64") !=
        std::string::npos);
  CHECK(refused([](auto& limits) { limits.pickle_memory = 64; }, good).find("limit of 64 bytes") !=
        std::string::npos);
  CHECK(refused([](auto& limits) { limits.entries = 2; }, good).find("3 entries, the limit is 2") !=
        std::string::npos);
  CHECK(refused([](auto& limits) { limits.rank = 1; }, good).find("2 dimensions, the limit is 1") !=
        std::string::npos);
  CHECK(refused([](auto& limits) { limits.depth = 1; }, good).find("nested deeper than 1") !=
        std::string::npos);
  CHECK(refused([](auto& limits) { limits.pickle_memo = 0; }, torch_zip("}q" + std::string(1, '\0')))
            .find("memo 0, the limit is 0") != std::string::npos);
  const std::string repeated = torch_zip(dictionary({{"x", tensor(storage("0", 4), 0, {1000}, {0})}}));
  CHECK(refused([](auto& limits) { limits.repeated_bytes = 1000; }, repeated).find("repeats elements") !=
        std::string::npos);
}

}  // namespace grapnel::testing
