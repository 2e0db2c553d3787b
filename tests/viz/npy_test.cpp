// Files as numpy.save writes them, byte for byte, and everything that is not one.
#include "grapnel/viz/npy.h"

#include <doctest/doctest.h>

#include "grapnel/engine/error.h"
#include "grapnel/engine/ops.h"
#include "grapnel/viz/file.h"
#include "viz/expected.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

using Bytes = std::vector<std::uint8_t>;

/// A file of format `version` with this header text and `values` behind it.
template <class T>
Bytes file(int version, const std::string& header, std::vector<T> values) {
  std::string text = "\x93NUMPY";
  text += static_cast<char>(version);
  text += '\0';
  for (int byte = 0; byte < (version == 1 ? 2 : 4); ++byte)
    text += static_cast<char>(header.size() >> 8 * byte);
  text += header;
  text.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  return {text.begin(), text.end()};
}

std::string refusal(const Bytes& bytes) {
  return message_of<FileError>([&] { decode_npy(bytes, "x.npy"); });
}

std::string header(const std::string& type, const std::string& shape, const std::string& order = "False") {
  return "{'descr': '" + type + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

}  // namespace

TEST_CASE("written bytes are numpy's") {
  // numpy.save of numpy.array([[1, 2, 3], [4, 5, 6]], "<f4"): 128 bytes up to the data.
  const Bytes bytes = encode_npy(Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3}));
  REQUIRE(bytes.size() == 128 + 24);
  std::string expected("\x93NUMPY\1\0\x76\0", 10);
  expected += "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  expected.append(127 - expected.size(), ' ');
  expected += '\n';
  CHECK(std::string(bytes.begin(), bytes.begin() + 128) == expected);

  const auto shape_of = [](const Shape& shape) {
    const Bytes data = encode_npy(Tensor::zeros(shape));
    const std::string text(data.begin(), data.end());
    return text.substr(text.find("'shape'"), text.find('}') - text.find("'shape'"));
  };
  CHECK(shape_of({}) == "'shape': (), ");
  CHECK(shape_of({4}) == "'shape': (4,), ");
  CHECK(shape_of({1, 0, 2}) == "'shape': (1, 0, 2), ");
}

TEST_CASE("what is written is read again") {
  const TemporaryFolder folder;
  for (const DType type : {DType::float32, DType::float64, DType::int64})
    for (const Shape& shape : {Shape{}, Shape{5}, Shape{2, 3, 4}, Shape{3, 0}, Shape{1, 2, 3, 4, 5}}) {
      const Tensor tensor = integers("npy", shape, 1000).to(type);
      write_npy(folder / "a.npy", tensor);
      const Tensor read = read_npy(folder / "a.npy");
      CHECK(read.dtype() == type);
      CHECK(read.shape() == shape);
      CHECK(read.to_vector<double>() == tensor.to_vector<double>());
    }
  CHECK(folder.files() == 1);
}

TEST_CASE("views and channels-last tensors are written in row-major order") {
  const Tensor tensor = reals("npy", {2, 3, 4, 5});
  CHECK(encode_npy(tensor.contiguous(MemoryFormat::channels_last)) == encode_npy(tensor));
  const Tensor turned = decode_npy(encode_npy(permute(tensor, {3, 1, 0, 2})));
  CHECK(turned.shape() == Shape{5, 3, 2, 4});
  CHECK(turned.to_vector<float>() == permute(tensor, {3, 1, 0, 2}).to_vector<float>());
}

TEST_CASE("a map is written as (H,W)") {
  const TemporaryFolder folder;
  const FloatMap map{2, 3, {0, 1, 2, 3, 4, 5}};
  write_npy(folder / "map.npy", map);
  CHECK(read_npy(folder / "map.npy").shape() == Shape{2, 3});
  CHECK(to_map(read_npy(folder / "map.npy")) == map);
}

TEST_CASE("formats 1 to 3, Fortran order, and headers as other writers lay them out") {
  for (const int version : {1, 2, 3}) {
    const Tensor tensor =
        decode_npy(file<double>(version, header("<f8", "(2, 3)", "True"), {1, 4, 2, 5, 3, 6}));
    CHECK(tensor.shape() == Shape{2, 3});
    CHECK(tensor.to_vector<double>() == std::vector<double>{1, 2, 3, 4, 5, 6});
    CHECK(tensor.is_contiguous());
  }
  const std::string compact = "{\"shape\":(2L,),\"fortran_order\":True,\"descr\":\"<i8\"}";
  CHECK(decode_npy(file<std::int64_t>(1, compact, {-7, 9})).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{-7, 9});
}

TEST_CASE("what is not supported is named") {
  CHECK(contains(refusal(file<float>(1, header(">f4", "(1,)"), {1})), "type \">f4\""));
  CHECK(contains(refusal(file<float>(1, header("<i4", "(1,)"), {1})), "astype"));
  CHECK(contains(refusal(file<float>(4, header("<f4", "(1,)"), {1})), "format 4"));
  CHECK(contains(
      refusal(file<float>(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", {1})),
      "records"));
  CHECK(contains(refusal({'P', 'K', 3, 4, 0, 0, 0, 0, 0, 0, 0, 0}), "is no npy file"));
  CHECK_THROWS_AS(encode_npy(Tensor::zeros({2}, DType::uint8)), TypeError);
}

TEST_CASE("sizes that do not fit are refused, however large") {
  CHECK(refusal(file<float>(1, header("<f4", "(3,)"), {1, 2})) ==
        "x.npy: shape (3,) of float32 takes 12 bytes, but 8 lie behind the header");
  CHECK(contains(refusal(file<float>(1, header("<f4", "(1,)"), {1, 2})), "takes 4 bytes, but 8"));
  for (const char* shape :
       {"(4294967296, 4294967296)", "(9223372036854775807,)", "(99999999999999999999,)", "(-1,)",
        "(0, 4294967296, 4294967296)", "(1,1,1,1,1,1,1,1,1)", "3", "(3", "(3 4)"})
    CHECK(contains(refusal(file<float>(1, header("<f4", shape), {1, 2})), "npy header"));
}

TEST_CASE("a damaged header is refused, wherever it ends") {
  const Bytes bytes = file<float>(1, header("<f4", "(2,)"), {1, 2});
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK_THROWS_AS(decode_npy(std::span(bytes).first(size)), FileError);
  CHECK(contains(refusal(file<float>(1, "{'descr': '<f4', 'shape': (1,)}", {1})), "lacks"));
  CHECK(contains(refusal(file<float>(1, header("<f4", "(1,)") + "x", {1})), "goes on"));
  CHECK(contains(refusal(file<float>(1, "{'descr': '<f4', 'descr': '<f4'}", {1})), "unexpected key"));
  CHECK(contains(refusal(file<float>(1, header("<f4", "(1,)", "0"), {1})), "fortran_order"));
}
