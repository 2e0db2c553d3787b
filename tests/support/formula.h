// Weights, inputs and sign vectors by formula: the twin of ../golden/formula.py, which says how and why.
//
// Integer arithmetic modulo 2^32 or one double operation at a time, hence the same bits as in Python.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "grapnel/engine/tensor.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::testing {

/// FNV-1a, 32 bits.
constexpr std::uint32_t name_hash(std::string_view name) {
  std::uint32_t value = 2166136261u;
  for (char c : name) value = (value ^ static_cast<unsigned char>(c)) * 16777619u;
  return value;
}

/// 32 well-mixed bits for element `index` of the tensor whose name hashes to `name`.
constexpr std::uint32_t hash(std::uint32_t name, std::uint32_t index) {
  std::uint32_t h = index * 0x9E3779B9u + name;
  h ^= h >> 16;
  h *= 0x7FEB352Du;
  h ^= h >> 15;
  h *= 0x846CA68Bu;
  h ^= h >> 16;
  return h;
}

/// On the default device, as all tensors here: float32 values spread evenly over [shift - scale, shift +
/// scale).
inline Tensor reals(std::string_view name, const Shape& shape, float scale = 1, float shift = 0) {
  Tensor result = Tensor::empty(shape, DType::float32, MemoryFormat::contiguous, Device::cpu());
  float* out = result.data<float>();
  kernels::parallel_for(
      numel(shape), 1 << 16, [=, seed = name_hash(name)](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const auto high = static_cast<std::int32_t>(hash(seed, static_cast<std::uint32_t>(i)) >> 8);
          const double unit = (high - (1 << 23)) * 0x1p-23;
          out[i] = static_cast<float>(unit * static_cast<double>(scale) + static_cast<double>(shift));
        }
      });
  return result.to(default_device());
}

/// int64 values first, ..., first + limit - 1.
inline Tensor integers(std::string_view name, const Shape& shape, std::uint32_t limit,
                       std::int64_t first = 0) {
  Tensor result = Tensor::empty(shape, DType::int64, MemoryFormat::contiguous, Device::cpu());
  std::int64_t* out = result.data<std::int64_t>();
  for (std::int64_t i = 0; i < numel(shape); ++i)
    out[i] = first + hash(name_hash(name), static_cast<std::uint32_t>(i)) % limit;
  return result.to(default_device());
}

/// The value of a parameter or buffer of a network.
inline Tensor network_tensor(std::string_view name, const Shape& shape) {
  const std::string_view leaf = name.substr(name.rfind('.') + 1);
  if (leaf == "num_batches_tracked") return integers(name, shape, 100, 100);
  if (leaf == "running_mean") return reals(name, shape, 0.2f);
  if (leaf == "running_var") return reals(name, shape, 0.5f, 1.0f);
  if (leaf == "bias") return reals(name, shape, 0.1f);
  if (shape.size() == 1) {
    const float strength = name.ends_with("bn2.weight") ? 0.25f : 1.0f;
    return reals(name, shape, 0.25f * strength, strength);
  }
  const auto fan_in = static_cast<double>(numel(shape) / shape[0]);
  return reals(name, shape, static_cast<float>(std::sqrt(6.0 / fan_in)));
}

/// What is kept of a large tensor: its L2 norm and its inner products with eight vectors of signs.
struct Digest {
  static constexpr int kProjections = 8;
  double norm = 0;
  std::array<double, kProjections> projections{};
};

/// Over the elements in row-major order, summed in double.
Digest digest(const Tensor& tensor);

}  // namespace grapnel::testing
