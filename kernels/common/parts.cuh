// What floats become for tensor cores, on a GPU: rounded, or in parts (Parts in kernels.h).
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "grapnel/kernels/common/device.cuh"

namespace grapnel::kernels {

/// How operands are multiplied: the elements that are, and in how many parts a float becomes such elements.
/// Floats by FMAs, else by tensor cores.
struct AsFloats {
  using Element = float;
  static constexpr int kParts = 1;
};
struct AsTf32 {
  using Element = float;
  static constexpr int kParts = 1;
};
struct AsBf16 {
  using Element = device::BFloat16;
  static constexpr int kParts = 1;
};
/// In float32: a float is the sum of three BFloat16, of 8 bits each, and six of the nine products of two
/// floats' parts are all that its 24 bits can tell. (But infinity minus itself is no part of anything: where
/// CUDA cores make infinity of one, this makes NaN.)
struct AsFp32 {
  using Element = device::BFloat16;
  static constexpr int kParts = 3;
};
template <class Way>
using ElementOf = typename Way::Element;

GRAPNEL_DEVICE std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// To nearest, ties to even, with `dropped` lower bits left over. A NaN stays one, whichever bits it has.
template <int dropped>
GRAPNEL_DEVICE std::uint32_t rounded(float value) {
  const std::uint32_t bits = bits_of(value);
  return value != value ? bits | 0x400000u : bits + ((1u << (dropped - 1)) - 1) + (bits >> dropped & 1u);
}

/// Bits of which tensor cores drop the lower 13, so that they see the nearest TF32. Ties go away from zero,
/// which takes three instructions in place of five.
GRAPNEL_DEVICE std::uint32_t nearest_tf32(float value) {
  return value != value ? bits_of(value) | 0x400000u : bits_of(value) + 0x1000u;
}

GRAPNEL_DEVICE float float_of(std::uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
GRAPNEL_DEVICE float float_of(float value) {
  return value;
}
GRAPNEL_DEVICE float float_of(device::BFloat16 value) {
  return float_of(static_cast<std::uint32_t>(value.bits) << 16);
}
GRAPNEL_DEVICE float float_of(device::Float16 value) {
  return device::widened(value);
}

/// What becomes of an operand's element.
template <class Way>
GRAPNEL_DEVICE std::array<ElementOf<Way>, Way::kParts> parts_of(float value) {
  if constexpr (std::is_same_v<Way, AsFloats>) {
    return {value};
  } else if constexpr (std::is_same_v<Way, AsTf32>) {
    return {float_of(rounded<13>(value) & ~0x1fffu)};
  } else if constexpr (Way::kParts == 1) {
    return {device::BFloat16{static_cast<std::uint16_t>(rounded<16>(value) >> 16)}};
  } else {
    std::array<device::BFloat16, Way::kParts> parts;
    GRAPNEL_UNROLL
    for (std::size_t part = 0; part < parts.size(); ++part) {
      parts[part] = {static_cast<std::uint16_t>(bits_of(value) >> 16)};
      value -= float_of(parts[part]);
    }
    return parts;
  }
}

/// A float after it was in memory as a T.
template <class T>
GRAPNEL_DEVICE float as_kept(float value) {
  return float_of(parts_of<std::conditional_t<std::is_same_v<T, float>, AsFloats, AsBf16>>(value)[0]);
}

/// Elements `at` and on of an operand = values; its parts lie `apart`.
template <class Way, int width>
GRAPNEL_DEVICE void store_parts(device::Global<ElementOf<Way>> operand, std::int64_t at, std::int64_t apart,
                                const device::Vector<float, width>& values) {
  device::Vector<ElementOf<Way>, width> result[Way::kParts];
  GRAPNEL_UNROLL
  for (int e = 0; e < width; ++e) {
    const auto parts = parts_of<Way>(values[e]);
    GRAPNEL_UNROLL
    for (std::size_t part = 0; part < Way::kParts; ++part) result[part][e] = parts[part];
  }
  GRAPNEL_UNROLL
  for (int part = 0; part < Way::kParts; ++part)
    device::store_vector(operand, part * apart + at, result[part]);
}

/// Elements i and on as floats.
template <int width, class T>
GRAPNEL_DEVICE device::Vector<float, width> load_floats(device::Global<const T> from, std::int64_t i) {
  const auto values = device::load_vector<width>(from, i);
  if constexpr (std::is_same_v<T, float>) {
    return values;
  } else {
    device::Vector<float, width> floats;
    GRAPNEL_UNROLL for (int k = 0; k < width; ++k) floats[k] = float_of(values[k]);
    return floats;
  }
}
/// The other way, rounded to nearest.
template <int width, class T>
GRAPNEL_DEVICE void store_floats(device::Global<T> to, std::int64_t i,
                                 const device::Vector<float, width>& values) {
  if constexpr (std::is_same_v<T, float>)
    device::store_vector(to, i, values);
  else
    store_parts<AsBf16>(to, i, 0, values);
}

}  // namespace grapnel::kernels
