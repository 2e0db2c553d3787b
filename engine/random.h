// Counter-based random numbers: the same seed gives the same numbers, whatever the number of threads.
#pragma once

#include <cstdint>

namespace grapnel {

/// A stream of Philox 4x32-10 blocks (Salmon et al., SC 2011). Copyable; not shared between threads.
class Generator {
 public:
  explicit Generator(std::uint64_t seed = 0) : seed_(seed) {}

  std::uint64_t seed() const { return seed_; }
  std::uint64_t offset() const { return offset_; }
  void set_offset(std::uint64_t offset) { offset_ = offset; }

  /// 32 random bits, at most 2^32 streams apart: `index` addresses the number, no state involved.
  static std::uint32_t bits_at(std::uint64_t seed, std::uint64_t index);

  std::uint32_t bits() { return bits_at(seed_, offset_++); }
  /// Uniform in [0, 1), 24 bits.
  double uniform() { return static_cast<double>(bits() >> 8) * 0x1p-24; }
  /// Standard normal (Box-Muller).
  double normal();

 private:
  std::uint64_t seed_;
  std::uint64_t offset_ = 0;
};

/// The generator used where none is given (dropout). One per thread.
Generator& default_generator();

}  // namespace grapnel
