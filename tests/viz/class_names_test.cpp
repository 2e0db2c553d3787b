#include "grapnel/viz/class_names.h"

#include <doctest/doctest.h>

#include <fstream>
#include <set>

#include "grapnel/engine/error.h"
#include "viz/expected.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

/// The list read from a file with this content.
ClassNames read(const std::string& content) {
  const TemporaryFolder folder;
  std::ofstream(folder / "names.txt") << content;
  return ClassNames::from_file(folder / "names.txt");
}

std::string refusal(const std::string& content) {
  return message_of<FileError>([&] { read(content); });
}

}  // namespace

TEST_CASE("ImageNet has 1,000 classes in the order of their WordNet ids") {
  const ClassNames& names = ClassNames::imagenet();
  REQUIRE(names.size() == 1000);
  std::set<std::string> unique;
  for (int i = 0; i < 1000; ++i) {
    unique.insert(names.unique_name(i));
    CHECK(names.find(names.wordnet_id(i)) == i);
    if (i > 0) CHECK(names.wordnet_id(i - 1) < names.wordnet_id(i));
  }
  CHECK(unique.size() == 1000);
  CHECK(names.name(0) == "tench");
  CHECK(names.name(207) == "golden retriever");
  CHECK(names.wordnet_id(207) == "n02099601");
  CHECK(names.name(999) == "toilet tissue");
}

TEST_CASE("a class is found by number, WordNet id or label") {
  const ClassNames& names = ClassNames::imagenet();
  CHECK(names.find("281") == 281);
  CHECK(names.find("n02123045") == 281);
  CHECK(names.find("tabby") == 281);
  CHECK(names.find(" Golden_Retriever ") == 207);
  CHECK(names.find("crane bird") == 134);
}

TEST_CASE("labels that mean two classes are refused with both") {
  const ClassNames& names = ClassNames::imagenet();
  CHECK(message_of<NameError>([&] { names.find("crane"); }) ==
        "\"crane\" could be \"crane bird\" (134, n02012849), \"crane\" (517, n03126707); give the number or "
        "the WordNet id");
  const std::string maillot = message_of<NameError>([&] { names.find("maillot"); });
  CHECK(contains(maillot, "638"));
  CHECK(contains(maillot, "639"));

  const ClassNames old({"crane", "dog", "crane"});
  CHECK(message_of<NameError>([&] { old.find("crane"); }) ==
        "\"crane\" could be \"crane\" (0), \"crane\" (2); give the number");
  CHECK(old.unique_name(2) == "crane (2)");
  CHECK(old.unique_name(1) == "dog");
}

TEST_CASE("a wrong label is answered with similar ones") {
  const ClassNames& names = ClassNames::imagenet();
  const auto answer = [&](const char* text) { return message_of<NameError>([&] { names.find(text); }); };
  CHECK(contains(answer("golden retreiver"), "did you mean \"golden retriever\" (207, n02099601)"));
  CHECK(contains(answer("cat"), "\"tiger cat\" (282"));
  CHECK(contains(answer("qqqqqqqq"), "give a label or a number from 0 to 999"));
  CHECK(contains(answer("1000"), "classes go from 0 to 999"));
  CHECK(contains(answer("-1"), "there is no class -1"));
  CHECK(contains(answer(""), "there is no class \"\""));
  CHECK_THROWS_AS(names.name(1000), NameError);
}

TEST_CASE("a file has one name a line") {
  const ClassNames names = read("airplane\nautomobile \r\nbird\n\n\n");
  CHECK(names.size() == 3);
  CHECK(names.name(1) == "automobile");
  CHECK(names.wordnet_id(1).empty());
  CHECK(names.find("bird") == 2);
}

TEST_CASE("lines may open with WordNet ids and list synonyms") {
  const ClassNames names =
      read("\xef\xbb\xbfn01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n");
  CHECK(names.wordnet_id(1) == "n01443537");
  CHECK(names.name(0) == "tench, Tinca tinca");
  CHECK(names.find("tinca tinca") == 0);
  CHECK(names.find("n01443537") == 1);
}

TEST_CASE("JSON and Python lists and dictionaries") {
  CHECK(read("[\"caf\\u00e9\", \"\\ud83d\\udc15\", \"a\\\"b\"]").name(0) == "caf\xc3\xa9");
  CHECK(read("[\"caf\\u00e9\", \"\\ud83d\\udc15\", \"a\\\"b\"]").name(1) == "\xf0\x9f\x90\x95");
  CHECK(read("[\"caf\\u00e9\", \"\\ud83d\\udc15\", \"a\\\"b\"]").name(2) == "a\"b");
  const ClassNames indexed =
      read("{\"1\": [\"n01443537\", \"goldfish\"], \"0\": [\"n01440764\", \"tench\"]}");
  CHECK(indexed.name(0) == "tench");
  CHECK(indexed.wordnet_id(1) == "n01443537");
  CHECK(read("{0: 'tench, Tinca tinca',\n 1: \"cock's comb\",}").name(1) == "cock's comb");
}

TEST_CASE("a file that is no list of names says where it fails") {
  CHECK(contains(refusal(""), "holds no class names"));
  CHECK(contains(refusal("cat\n\ndog\n"), "line 2: is blank"));
  CHECK(contains(refusal("[\"a\", 3]"), "byte 6: expected a string"));
  CHECK(contains(refusal("[\"a\""), "expected ']'"));
  CHECK(contains(refusal("[\"a"), "expected the end of a string"));
  CHECK(contains(refusal("[\"\\ud83d\"]"), "surrogates"));
  CHECK(contains(refusal("[\"a\"] x"), "the end of the file"));
  CHECK(contains(refusal("{\"0\": \"a\", \"2\": \"b\"}"), "a name for index 1"));
  CHECK(contains(refusal("{\"0\": \"a\", \"0\": \"b\"}"), "each index once"));
  CHECK(contains(refusal("{\"a\": \"b\"}"), "a class index"));
  CHECK(contains(refusal(std::string("a\0b", 3)), "is no text"));
  CHECK_THROWS_AS(ClassNames::from_file("/nonexistent/names.txt"), FileError);
  CHECK_THROWS_AS(ClassNames({"a"}, {"n01440764", "n01443537"}), ShapeError);
}
