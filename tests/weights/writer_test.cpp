// What write_safetensors promises: the format, the same bytes every time, and a whole file or none.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>

#include "grapnel/engine/ops.h"
#include "weights/builders.h"

namespace grapnel::testing {
namespace {

std::size_t files_in(const TemporaryFolder& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

std::string written(const weights::NamedTensors& tensors,
                    const std::map<std::string, std::string>& metadata = {}) {
  TemporaryFolder folder;
  weights::write_safetensors(folder / "file", tensors, metadata);
  return read_bytes(folder / "file");
}

}  // namespace

TEST_CASE("the writer's bytes are those that the safetensors library was checked with") {
  const weights::StateFile types = weights::read(golden("types.zip.pt"));
  CHECK(written(types.tensors) == read_bytes(golden("written.safetensors")));
}

TEST_CASE("a written file has the format's parts, padded to 64 bytes") {
  const std::string bytes =
      written({{"b\"\\\n", Tensor::from<std::uint8_t>({7}, {})}, {"a", Tensor::from<float>({1, 2}, {2, 1})}},
              {{"k", "v"}, {"j", "\x01"}});
  std::string json = R"({"__metadata__":{"j":"\u0001","k":"v"},)"
                     R"("b\"\\\u000a":{"dtype":"U8","shape":[],"data_offsets":[8,9]},)"
                     R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}})";
  json.resize((json.size() + 8 + 63) / 64 * 64 - 8, ' ');
  CHECK(bytes == safetensors(json, bytes_of(1.0f) + bytes_of(2.0f) + "\x07"));
  CHECK(written({}) == safetensors("{}" + std::string(54, ' ')));
}

TEST_CASE("what was written is read again, in the same order") {
  Generator generator(1);
  const Tensor image = Tensor::randn({2, 3, 4, 5}, generator);
  const weights::NamedTensors tensors{
      {"bytes", Tensor::from<std::uint8_t>({1, 255}, {2})},
      {"half", image.to(DType::float16)},
      {"double", image.to(DType::float64)},
      {"channels last", image.contiguous(MemoryFormat::channels_last)},
      {"transposed", transpose(image, 1, 3)},
      {"view", select(image, 0, 1)},
      {"truth", Tensor::from<float>({1, 0, 1}, {3}).to(DType::boolean)},
      {"brain", image.to(DType::bfloat16)},
      {"labels", Tensor::from<std::int64_t>({-1, 1LL << 40}, {2, 1})},
      {"empty", Tensor::empty({0, 3})},
      {"scalar", Tensor::scalar(2.5).set_requires_grad()},
  };
  TemporaryFolder folder;
  weights::write_safetensors(folder / "file", tensors, {{"na\u00efve", "\t\"\\\u20ac"}});
  const weights::StateFile read = weights::read(folder / "file");
  CHECK(read.metadata == std::map<std::string, std::string>{{"na\u00efve", "\t\"\\\u20ac"}});
  REQUIRE(read.tensors.size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    CAPTURE(tensors[i].first);
    const Tensor &before = tensors[i].second, &after = read.tensors[i].second;
    CHECK(read.tensors[i].first == tensors[i].first);
    CHECK(after.dtype() == before.dtype());
    CHECK(after.shape() == before.shape());
    CHECK(after.to_vector<double>() == before.to_vector<double>());
    CHECK(reinterpret_cast<std::uintptr_t>(after.raw_data()) % item_size(after.dtype()) == 0);
    CHECK_FALSE(after.requires_grad());
  }
  CHECK(written(tensors) == written(tensors));
}

TEST_CASE("a file is replaced whole, or not at all") {
  TemporaryFolder folder;
  const std::string path = folder / "file";
  weights::write_safetensors(path, {{"old", Tensor::ones({1})}});
  const weights::StateFile old = weights::read(path);
  weights::write_safetensors(path, {{"new", Tensor::zeros({1})}});
  CHECK(weights::read(path).tensors.at(0).first == "new");
  CHECK(old.tensors.at(0).second.item() == 1);
  CHECK(files_in(folder) == 1);

  const std::string before = read_bytes(path);
  const Tensor one = Tensor::ones({1});
  CHECK_THROWS_WITH_AS(weights::write_safetensors(path, {{"a", one}, {"a", one}}),
                       (path + ": tensor name 'a' is reserved or used twice, expected unique names").c_str(),
                       NameError);
  CHECK_THROWS_AS(weights::write_safetensors(path, {{"__metadata__", one}}), NameError);
  CHECK_THROWS_AS(weights::write_safetensors(path, {{"\xff", one}}), NameError);
  CHECK_THROWS_AS(weights::write_safetensors(path, {{"a", one}}, {{"k", "\xc3"}}), NameError);
  CHECK_THROWS_AS(weights::write_safetensors(path, {{"a", Tensor()}}), TypeError);
  CHECK(read_bytes(path) == before);
  CHECK(files_in(folder) == 1);

  CHECK_THROWS_WITH_AS(weights::write_safetensors(folder / "no/file", {{"a", one}}),
                       ((folder / "no/file") + ": cannot write: No such file or directory").c_str(),
                       FileError);
  std::filesystem::create_directory(folder / "taken");
  CHECK_THROWS_AS(weights::write_safetensors(folder / "taken", {{"a", one}}), FileError);
  CHECK(files_in(folder) == 2);
}

TEST_CASE("a write that fails leaves nothing behind") {
  TemporaryFolder folder;
  const Tensor values =
      Tensor::ones({1000});  // outside the limit: an OpenMP library may map a file on first use
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    weights::write_safetensors(folder / "file", {{"a", values}});
  } catch (const FileError& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(message == (folder / "file") + ": cannot write: File too large");
  CHECK(files_in(folder) == 0);
}

}  // namespace grapnel::testing
