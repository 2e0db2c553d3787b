// Copies between all strides and element types. The 16-bit formats are checked exhaustively: their values
// against the definition of the formats, their rounding at every midpoint between neighbours.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernel_testing.h"
#include "nest_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;
using grapnel::DType;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class To, class From>
std::vector<To> converted(const Table& table, DType to, const std::vector<From>& from, DType from_type) {
  std::vector<To> result(from.size());
  const auto count = static_cast<std::int64_t>(from.size());
  table.copy(Nest<2>{{count}, {{1}, {1}}}.loops(), result.data(), to, from.data(), from_type);
  return result;
}

/// A format of 1 sign bit, `exponent_bits` and `mantissa_bits`.
struct Format {
  DType type;
  int exponent_bits, mantissa_bits;

  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  int infinity() const { return ((1 << exponent_bits) - 1) << mantissa_bits; }

  double value(int bits) const {
    const double sign = bits & 0x8000 ? -1 : 1;
    const int exponent = (bits & 0x7fff) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
    if ((bits & 0x7fff) > infinity()) return kNan;
    if ((bits & 0x7fff) == infinity()) return sign * kInf;
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias() - mantissa_bits);
    return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias() - mantissa_bits);
  }
};

constexpr Format kFormats[] = {{DType::float16, 5, 10}, {DType::bfloat16, 8, 7}};

}  // namespace

TEST_CASE(
    "all 65536 values of the 16-bit formats have the value their format defines, and survive a round trip") {
  std::vector<std::uint16_t> all(65536);
  for (int bits = 0; bits < 65536; ++bits) all[bits] = static_cast<std::uint16_t>(bits);
  for (const Table* table : tables()) {
    for (const Format& format : kFormats) {
      CAPTURE(std::string(table->name));
      CAPTURE(format.mantissa_bits);
      const auto floats = converted<float>(*table, DType::float32, all, format.type);
      const auto doubles = converted<double>(*table, DType::float64, all, format.type);
      const auto back = converted<std::uint16_t>(*table, format.type, floats, DType::float32);
      int wrong = 0, changed = 0;
      for (int bits = 0; bits < 65536; ++bits) {
        wrong += !agree(floats[bits], format.value(bits)) || !agree(doubles[bits], format.value(bits)) ||
                 std::signbit(floats[bits]) != (bits >= 0x8000);
        const bool is_nan = (bits & 0x7fff) > format.infinity();
        changed += back[bits] != (is_nan ? bits | 1 << (format.mantissa_bits - 1) : bits);
      }
      CHECK(wrong == 0);
      CHECK(changed == 0);
    }
  }
}

TEST_CASE("rounding to the 16-bit formats: nearest, ties to even, at every pair of neighbours") {
  for (const Table* table : tables()) {
    for (const Format& format : kFormats) {
      CAPTURE(std::string(table->name));
      CAPTURE(format.mantissa_bits);
      std::vector<double> doubles;
      std::vector<std::uint16_t> want;
      const auto expect = [&](double value, int bits) {
        doubles.push_back(value);
        want.push_back(static_cast<std::uint16_t>(bits));
        doubles.push_back(-value);
        want.push_back(static_cast<std::uint16_t>(bits | 0x8000));
      };
      for (int low = 0; low < format.infinity(); ++low) {
        // Beyond the largest number the next step would be 2^(emax+1); from its midpoint on, infinity.
        const double next =
            low + 1 == format.infinity() ? std::ldexp(1, format.bias() + 1) : format.value(low + 1);
        const double middle = (format.value(low) + next) / 2;
        expect(middle, low % 2 == 0 ? low : low + 1);
        expect(std::nextafter(middle, 0), low);
        expect(std::nextafter(middle, kInf), low + 1);
      }
      expect(1e-300, 0);
      expect(1e300, format.infinity());
      expect(kInf, format.infinity());
      CHECK(converted<std::uint16_t>(*table, format.type, doubles, DType::float64) == want);

      std::vector<float> floats;
      std::vector<std::uint16_t> want_of_floats;
      for (std::size_t i = 0; i < doubles.size(); ++i) {
        if (static_cast<double>(static_cast<float>(doubles[i])) != doubles[i]) continue;
        floats.push_back(static_cast<float>(doubles[i]));
        want_of_floats.push_back(want[i]);
      }
      CHECK(floats.size() > 60000);
      CHECK(converted<std::uint16_t>(*table, format.type, floats, DType::float32) == want_of_floats);
    }
  }
}

TEST_CASE("16-bit values as PyTorch 2.15 rounds them") {
  const std::vector<float> x = {65519.99f, 65520.0f, 1e-8f, 2.9802322e-08f, 2.9802327e-08f,
                                6.1e-5f,   0.1f,     -0.0f, 1.0f / 3};
  const std::vector<std::uint16_t> half = {0x7bff, 0x7c00, 0x0000, 0x0000, 0x0001,
                                           0x03ff, 0x2e66, 0x8000, 0x3555};
  const std::vector<float> y = {0.1f, 1.0f / 3, 3.3895314e38f, 3.4e38f, 1e-40f, 1.00390625f, 1.01171875f};
  const std::vector<std::uint16_t> brain = {0x3dcd, 0x3eab, 0x7f7f, 0x7f80, 0x0001, 0x3f80, 0x3f82};
  for (const Table* table : tables()) {
    CHECK(converted<std::uint16_t>(*table, DType::float16, x, DType::float32) == half);
    CHECK(converted<std::uint16_t>(*table, DType::bfloat16, y, DType::float32) == brain);
  }
}

TEST_CASE("integers round once on their way to 16 bits, however large") {
  // 2^62 + 2^54 lies between two bfloat16 numbers; the 1 makes it more than half.
  const std::vector<std::int64_t> x = {(1LL << 62) + (1LL << 54),
                                       (1LL << 62) + (1LL << 54) + 1,
                                       -(1LL << 62) - (1LL << 54) - 1,
                                       std::numeric_limits<std::int64_t>::min(),
                                       257,
                                       259,
                                       -1,
                                       0};
  const std::vector<std::uint16_t> want = {0x5e80, 0x5e81, 0xde81, 0xdf00, 0x4380, 0x4382, 0xbf80, 0};
  for (const Table* table : tables()) {
    CHECK(converted<std::uint16_t>(*table, DType::bfloat16, x, DType::int64) == want);
  }
}

TEST_CASE("conversions to integers and booleans") {
  const std::vector<double> x = {0,   -0.0, 0.5, -0.5, 1.99, -1.99, -7.9,  255.9,
                                 256, 300,  -1,  3e9,  kNan, kInf,  -kInf, 1e20};
  const std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  // As PyTorch on x86: truncated to int64, then the low 8 bits.
  const std::vector<std::int64_t> integers = {0,   0,   0,  0,          1,      -1,     -7,     255,
                                              256, 300, -1, 3000000000, lowest, lowest, lowest, lowest};
  const std::vector<std::uint8_t> bytes = {0, 0, 0, 0, 1, 255, 249, 255, 0, 44, 255, 0, 0, 0, 0, 0};
  const std::vector<std::uint8_t> truths = {0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const std::vector<float> floats(x.begin(), x.end());
  for (const Table* table : tables()) {
    CAPTURE(std::string(table->name));
    CHECK(converted<std::int64_t>(*table, DType::int64, x, DType::float64) == integers);
    CHECK(converted<std::int64_t>(*table, DType::int64, floats, DType::float32) == integers);
    CHECK(converted<std::uint8_t>(*table, DType::uint8, x, DType::float64) == bytes);
    CHECK(converted<std::uint8_t>(*table, DType::boolean, x, DType::float64) == truths);
    CHECK(converted<std::uint8_t>(*table, DType::uint8, integers, DType::int64) == bytes);
    CHECK(converted<std::uint8_t>(*table, DType::boolean, integers, DType::int64) ==
          std::vector<std::uint8_t>{0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1});
    const auto halves = converted<std::uint16_t>(*table, DType::float16,
                                                 std::vector<double>{-0.0, 6e-8, kNan, -2.5}, DType::float64);
    CHECK(converted<std::uint8_t>(*table, DType::boolean, halves, DType::float16) ==
          std::vector<std::uint8_t>{0, 1, 1, 1});
    CHECK(converted<std::int64_t>(*table, DType::int64, halves, DType::float16) ==
          std::vector<std::int64_t>{0, 0, lowest, -2});
  }
}

TEST_CASE("every pair of types carries the numbers that both can hold") {
  const std::vector<double> numbers = {0, 1, 1, 0, 1, 0, 0};
  const DType types[] = {DType::float32, DType::float64, DType::float16, DType::bfloat16,
                         DType::int64,   DType::uint8,   DType::boolean};
  for (const Table* table : tables()) {
    for (DType from : types) {
      for (DType to : types) {
        CAPTURE(std::string(table->name));
        CAPTURE(static_cast<int>(from));
        CAPTURE(static_cast<int>(to));
        const auto source =
            converted<std::int64_t>(*table, from, numbers, DType::float64);  // room for any type
        const auto target = converted<std::int64_t>(*table, to, source, from);
        CHECK(converted<double>(*table, DType::float64, target, to) == numbers);
      }
    }
  }
}

namespace {

/// Copies floats to `to` over the nest and compares with counting; elements outside must stay as they were.
template <class To>
void check_strides(const Table& table, const Nest<2>& nest, DType to, double allowed) {
  const std::vector<float> src = random_values(static_cast<std::int64_t>(nest.extent_of(1)), 7);
  std::vector<To> dst(nest.extent_of(0), To{77}), want = dst;
  table.copy(nest.loops(), dst.data(), to, src.data(), DType::float32);
  int wrong = 0;
  for_each_index(nest.sizes, [&](const Index& i) {
    To& got = dst[offset(i, nest.strides[0])];
    wrong += !agree(got, src[offset(i, nest.strides[1])], allowed);
    got = To{77};
  });
  CHECK(wrong == 0);
  CHECK(dst == want);
}

}  // namespace

TEST_CASE("copies between any strides") {
  const std::vector<Nest<2>> nests = {
      {{0}, {{1}, {1}}},
      {{1}, {{1}, {1}}},
      {{53}, {{1}, {1}}},
      {{53}, {{3}, {2}}},
      {{53}, {{1}, {0}}},
      {{7, 9}, {{9, 1}, {0, 0}}},
      {{67, 35}, {{35, 1}, {1, 67}}},  // transposed, written in order
      {{67, 35}, {{1, 67}, {35, 1}}},  // transposed, read in order
      {{67, 3}, {{3, 1}, {1, 67}}},
      {{3, 67}, {{67, 1}, {1, 3}}},
      {{67, 35}, {{40, 1}, {1, 70}}},  // with gaps
      {{2, 37, 21}, {{777, 21, 1}, {777, 1, 37}}},
      {{2, 5, 6, 7}, {{210, 1, 35, 5}, {210, 42, 7, 1}}},  // NCHW to channels last
      {{2, 5, 6, 7}, {{210, 42, 7, 1}, {210, 1, 35, 5}}},  // and back
      {{2, 5, 6, 7}, {{210, 42, 7, 1}, {1, 2, 10, 60}}},   // all reversed
      {{2, 5, 6, 7}, {{500, 50, 8, 1}, {0, 7, 0, 1}}},     // broadcast into gaps
      {{1, 5, 1, 7}, {{1, 7, 1, 1}, {1, 1, 1, 5}}},
      {{3, 4, 5, 1}, {{20, 5, 1, 1}, {1, 3, 12, 1}}},
      {{2, 0, 3}, {{3, 3, 1}, {3, 3, 1}}},
  };
  for (const Table* table : tables()) {
    for (std::size_t n = 0; n < nests.size(); ++n) {
      CAPTURE(std::string(table->name));
      CAPTURE(n);
      check_strides<float>(*table, nests[n], DType::float32, 0);
      check_strides<double>(*table, nests[n], DType::float64, 0);
      check_strides<std::int64_t>(*table, nests[n], DType::int64, 1);
    }
  }
}

TEST_CASE("large copies come out the same for any number of threads") {
  const std::vector<Nest<2>> nests = {
      {{3, 41, 1000}, {{41000, 1, 41}, {41000, 1000, 1}}},
      {{3, 1000, 41}, {{41000, 1, 1000}, {41000, 41, 1}}},
      {{123001}, {{1}, {1}}},
      {{123001}, {{1}, {0}}},
  };
  for (const Table* table : tables()) {
    for (const Nest<2>& nest : nests) {
      CAPTURE(std::string(table->name));
      check_strides<float>(*table, nest, DType::float32, 0);
      const std::vector<float> src = random_values(static_cast<std::int64_t>(nest.extent_of(1)), 7);
      same_for_any_threads([&] {
        std::vector<float> dst(nest.extent_of(0));
        table->copy(nest.loops(), dst.data(), DType::float32, src.data(), DType::float32);
        return dst;
      });
      same_for_any_threads([&] {
        std::vector<std::uint16_t> dst(nest.extent_of(0));
        table->copy(nest.loops(), dst.data(), DType::float16, src.data(), DType::float32);
        return dst;
      });
    }
  }
}
