// One element from one type to another: round to nearest even, float to integer truncates, non-zero is true.
//
// The two 16-bit formats have no C++ type; they differ only in how the 15 bits beside the sign are shared
// between exponent and mantissa, so one template rounds to both.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "grapnel/kernels/dtype.h"

namespace grapnel::kernels {

struct Boolean {
  std::uint8_t value;
};

/// `value` as a 16-bit float with `Mantissa` stored mantissa bits. Rounds once; too large becomes infinity; a
/// NaN keeps its sign and the top of its payload, and is quiet.
template <int Mantissa>
constexpr std::uint16_t round_to_16_bits(double value) {
  constexpr int kDoubleMantissa = 52, kDoubleBias = 1023;
  constexpr std::uint64_t kDoubleInfinity = 0x7ff0'0000'0000'0000,
                          kImplicitOne = std::uint64_t{1} << kDoubleMantissa;
  constexpr int kMaxExponent = (1 << (15 - Mantissa)) - 1, kBias = kMaxExponent / 2;
  constexpr std::uint16_t kInfinity = kMaxExponent << Mantissa, kQuiet = 1 << (Mantissa - 1);

  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 48 & 0x8000);
  const std::uint64_t magnitude = bits & ~(std::uint64_t{1} << 63);
  const std::uint64_t mantissa = magnitude & (kImplicitOne - 1);
  int dropped = kDoubleMantissa - Mantissa;
  if (magnitude > kDoubleInfinity)
    return static_cast<std::uint16_t>(sign | kInfinity | kQuiet | mantissa >> dropped);
  const int exponent = static_cast<int>(magnitude >> kDoubleMantissa) - kDoubleBias + kBias;
  if (exponent >= kMaxExponent) return sign | kInfinity;

  std::uint64_t exact;  // the result's exponent and mantissa, followed by the `dropped` bits to round away
  if (exponent > 0) {
    exact = static_cast<std::uint64_t>(exponent) << kDoubleMantissa | mantissa;
  } else {  // subnormal in the narrow format
    dropped += 1 - exponent;
    if (dropped > kDoubleMantissa + 1) return sign;
    exact = kImplicitOne | mantissa;
  }
  const std::uint64_t just_below_half = (std::uint64_t{1} << (dropped - 1)) - 1, odd = exact >> dropped & 1;
  // A carry out of the mantissa goes into the exponent, and from the largest finite number to infinity, as it
  // should.
  return static_cast<std::uint16_t>(sign | (exact + just_below_half + odd) >> dropped);
}

constexpr float to_float(Float16 half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half.bits & 0x8000) << 16,
                      magnitude = half.bits & 0x7fff;
  const std::uint32_t rebias =
      magnitude < 0x7c00 ? 127 - 15 : 255 - 31;  // infinity and NaN have the largest exponent
  const auto normal = std::bit_cast<float>((magnitude << 13) + (rebias << 23));
  const float subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude < 0x0400 ? subnormal : normal));
}

constexpr float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

/// A double that rounds to any float format of at most 52 mantissa bits as `value` itself would: beyond 2^53
/// the bits that do not fit are replaced by one that only says whether there were any.
constexpr double sticky_double(std::int64_t value) {
  constexpr std::int64_t kExact = std::int64_t{1} << 53, kDropped = 2048;
  if (value >= -kExact && value <= kExact) return static_cast<double>(value);
  const std::int64_t kept = value / kDropped, sticky = value % kDropped != 0 ? (value < 0 ? -1 : 1) : 0;
  return static_cast<double>(kept * 2 + sticky) * (kDropped / 2);
}

/// Truncates toward zero; NaN and what int64 cannot hold give its minimum, as the x86 instruction does.
constexpr std::int64_t truncate(double value) {
  constexpr double kLimit = 0x1p63;
  if (!(value >= -kLimit && value < kLimit)) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(value);
}

template <class To, class From>
constexpr To convert(From value) {
  constexpr bool from_integer = std::is_integral_v<From>;
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<From, Boolean>) {
    return convert<To>(static_cast<std::int64_t>(value.value != 0));
  } else if constexpr (std::is_same_v<From, Float16> || std::is_same_v<From, BFloat16>) {
    return convert<To>(to_float(value));
  } else if constexpr (std::is_same_v<To, Boolean>) {
    return Boolean{static_cast<std::uint8_t>(value != 0)};
  } else if constexpr (std::is_same_v<To, Float16> || std::is_same_v<To, BFloat16>) {
    double wide;
    if constexpr (from_integer) {
      wide = sticky_double(value);
    } else {
      wide = value;
    }
    return To{round_to_16_bits < std::is_same_v<To, Float16> ? 10 : 7 > (wide)};
  } else if constexpr (std::is_integral_v<To> && !from_integer) {
    return static_cast<To>(truncate(value));
  } else {
    return static_cast<To>(value);
  }
}

/// Calls use(T{}) with the C++ type that stands for `type`.
template <class Use>
constexpr void with_type(DType type, const Use& use) {
  switch (type) {
    case DType::float32:
      return use(float{});
    case DType::float64:
      return use(double{});
    case DType::float16:
      return use(Float16{});
    case DType::bfloat16:
      return use(BFloat16{});
    case DType::int64:
      return use(std::int64_t{});
    case DType::uint8:
      return use(std::uint8_t{});
    case DType::boolean:
      return use(Boolean{});
  }
}

}  // namespace grapnel::kernels
