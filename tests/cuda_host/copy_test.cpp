// Copies and conversions on the model of a GPU, against the reference, bit for bit.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "kernels/nest_testing.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;
using testing::Nest;

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr DType kTypes[] = {DType::float32, DType::float64, DType::float16, DType::bfloat16,
                            DType::int64,   DType::uint8,   DType::boolean};

std::size_t size_of(DType type) {
  switch (type) {
    case DType::float64:
    case DType::int64:
      return 8;
    case DType::float32:
      return 4;
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::uint8:
    case DType::boolean:
      return 1;
  }
  return 0;
}

const Table& cuda() {
  static const Table table = [] {
    Table result{};
    fill_copy_cuda(result);
    return result;
  }();
  return table;
}

const Table& reference() {
  int count = 0;
  const Table* const* tables = cpu_tables(&count);
  return *tables[count - 1];
}

template <class T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

Bytes converted(const Bytes& from, DType from_type, DType to_type) {
  const auto count = static_cast<std::int64_t>(from.size() / size_of(from_type));
  Bytes to(static_cast<std::size_t>(count) * size_of(to_type));
  reference().copy(Nest<2>{{count}, {{1}, {1}}}.loops(), to.data(), to_type, from.data(), from_type);
  return to;
}

/// What the nest does not reach must stay as it was. Source and target begin `skip` elements into memory.
void compare(const Nest<2>& nest, DType to, DType from, const Bytes& source, std::size_t skip = 0) {
  Bytes expected((nest.extent_of(0) + skip + 1) * size_of(to), 77);
  const Array<std::uint8_t> in(source), out(expected);
  const std::size_t out_at = skip * size_of(to), in_at = skip * size_of(from);
  cuda().copy(nest.loops(), out.data() + out_at, to, in.data() + in_at, from);
  reference().copy(nest.loops(), expected.data() + out_at, to, source.data() + in_at, from);
  CAPTURE(static_cast<int>(to));
  CAPTURE(static_cast<int>(from));
  CAPTURE(skip);
  CHECK(out.values() == expected);
}

/// Any bits are a value of any type; booleans of any other byte than 0 and 1 move as they are, too.
Bytes any_bytes(std::size_t count) {
  Bytes bytes(count);
  unsigned seed = 9;
  for (std::uint8_t& byte : bytes)
    byte = static_cast<std::uint8_t>((seed = seed * 1664525u + 1013904223u) >> 24);
  return bytes;
}

const std::vector<Nest<2>>& nests() {
  static const std::vector<Nest<2>> list = {
      {{0}, {{1}, {1}}},
      {{2, 0, 3}, {{3, 3, 1}, {3, 3, 1}}},
      {{40, 0}, {{1, 1}, {1, 40}}},
      {{0, 40, 40}, {{1600, 40, 1}, {1600, 1, 40}}},
      {{1}, {{1}, {1}}},
      {{53}, {{1}, {1}}},
      {{512}, {{1}, {1}}},
      {{53}, {{3}, {2}}},
      {{53}, {{1}, {0}}},
      {{7, 9}, {{9, 1}, {0, 0}}},
      {{5, 50}, {{64, 1}, {80, 1}}},              // rows of vectors, with gaps
      {{67, 35}, {{35, 1}, {1, 67}}},             // transposed, written in order
      {{67, 35}, {{1, 67}, {35, 1}}},             // transposed, read in order
      {{32, 64}, {{64, 1}, {1, 32}}},             // whole tiles
      {{8, 9}, {{9, 1}, {1, 8}}},                 // the least that is worth a tile
      {{67, 3}, {{3, 1}, {1, 67}}},               // and what is not
      {{67, 35}, {{40, 1}, {1, 70}}},             // transposed, with gaps
      {{9, 33}, {{33, 1}, {1, 0}}},               // one value a row
      {{10, 3, 33}, {{99, 33, 1}, {1, 10, 30}}},  // turned over another dimension
      {{2, 37, 3, 11}, {{1221, 33, 11, 1}, {1221, 1, 407, 37}}},
      {{2, 5, 6, 7}, {{210, 1, 35, 5}, {210, 42, 7, 1}}},  // NCHW to channels last
      {{2, 6, 7, 40}, {{1680, 280, 40, 1}, {1680, 7, 1, 42}}},
      {{2, 5, 6, 7}, {{210, 42, 7, 1}, {1, 2, 10, 60}}},  // all reversed
      {{2, 5, 6, 7}, {{500, 50, 8, 1}, {0, 7, 0, 1}}},    // broadcast into gaps
      {{3, 4, 5, 1}, {{20, 5, 1, 1}, {1, 3, 12, 1}}},
  };
  return list;
}

}  // namespace

TEST_CASE("copies of each element size between any strides, from any address") {
  for (std::size_t n = 0; n < nests().size(); ++n) {
    CAPTURE(n);
    const Nest<2>& nest = nests()[n];
    for (const DType type : {DType::float32, DType::int64, DType::bfloat16, DType::boolean})
      for (const std::size_t skip : {std::size_t{0}, std::size_t{1}})
        compare(nest, type, type, any_bytes((nest.extent_of(1) + skip) * size_of(type)), skip);
  }
}

TEST_CASE("conversions between any strides") {
  for (std::size_t n = 0; n < nests().size(); ++n) {
    CAPTURE(n);
    const Bytes source = bytes_of(cuda_host::numbers(nests()[n].extent_of(1)));
    compare(nests()[n], DType::float64, DType::float32, source);
    compare(nests()[n], DType::uint8, DType::float32, source);
    compare(nests()[n], DType::float32, DType::bfloat16, any_bytes(nests()[n].extent_of(1) * 2));
  }
}

TEST_CASE("conversions of what is hard to convert, for all pairs of types") {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr std::int64_t kLowest = std::numeric_limits<std::int64_t>::min(), kBig = std::int64_t{1} << 62;
  const std::vector<double> floating = {0,     -0.0,       0.5,        -0.5,        1.99,     -1.99,   -7.9,
                                        255.9, 256,        300,        -1,          3e9,      NAN,     kInf,
                                        -kInf, 1e20,       -1e20,      65504,       65519.99, 65520,   6e-8,
                                        3e-8,  2e-8,       5.96e-8,    6.1e-5,      6.09e-5,  0.1,     3.4e38,
                                        1e300, 1.00390625, 1.01171875, 1 + 0x1p-24, 0x1p63,   -0x1p63, 1e-40};
  const std::vector<std::int64_t> integers = {0,
                                              1,
                                              -1,
                                              257,
                                              259,
                                              255,
                                              256,
                                              kLowest,
                                              -(kLowest + 1),
                                              kBig,
                                              kBig + (kBig >> 8),
                                              kBig + (kBig >> 8) + 1,
                                              -kBig - (kBig >> 8) - 1,
                                              (std::int64_t{1} << 53) + 1,
                                              65520,
                                              2049,
                                              2051};
  for (const DType from : kTypes) {
    const Bytes sources[] = {converted(bytes_of(floating), DType::float64, from),
                             converted(bytes_of(integers), DType::int64, from)};
    for (const DType to : kTypes)
      for (const Bytes& source : sources)
        compare({{static_cast<std::int64_t>(source.size() / size_of(from))}, {{1}, {1}}}, to, from, source);
  }
}
