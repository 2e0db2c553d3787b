// How CUDA devices multiply matrices and convolve.
#pragma once

#include <atomic>
#include <cstdint>

namespace grapnel::kernels {

/// fp32: float32 products, by float FMAs or as exactly by tensor cores. tf32, bf16: operands rounded to 10 or
/// 7 bits of fraction for tensor cores. Sums are float32 in all three.
enum class Precision : std::uint8_t { fp32, tf32, bf16 };

namespace detail {
inline std::atomic<Precision> chosen_precision{Precision::fp32};
}

inline Precision precision() noexcept {
  return detail::chosen_precision.load(std::memory_order_relaxed);
}
/// Of the whole process, from the next operation on.
inline void set_precision(Precision precision) noexcept {
  detail::chosen_precision.store(precision, std::memory_order_relaxed);
}

}  // namespace grapnel::kernels
