// Counter-based random numbers: the same seed gives the same numbers, whatever the number of threads.
#pragma once

#include <array>
#include <cstdint>

namespace grapnel {

/// A stream of Philox 4x32-10 blocks (Salmon et al., SC 2011). Copyable; not shared between threads.
class Generator {
 public:
  explicit Generator(std::uint64_t seed = 0) : seed_(seed) {}

  std::uint64_t seed() const { return seed_; }
  std::uint64_t offset() const { return offset_; }
  void set_offset(std::uint64_t offset) { offset_ = offset; }

  /// 32 random bits: `index` addresses the number, no state involved.
  static std::uint32_t bits_at(std::uint64_t seed, std::uint64_t index) {
    return block_at(seed, index / 4)[index % 4];
  }

  std::uint32_t bits() {
    if (offset_ % 4 == 0 || offset_ != next_in_block_) block_ = block_at(seed_, offset_ / 4);
    next_in_block_ = offset_ + 1;
    return block_[offset_++ % 4];
  }
  /// Uniform in [0, 1), 24 bits.
  double uniform() { return static_cast<double>(bits() >> 8) * 0x1p-24; }
  /// Standard normal (Box-Muller).
  double normal();

 private:
  using Block = std::array<std::uint32_t, 4>;
  static Block block_at(std::uint64_t seed, std::uint64_t block);

  std::uint64_t seed_;
  std::uint64_t offset_ = 0;
  Block block_{};                     // the numbers around offset_ ...
  std::uint64_t next_in_block_ = ~0;  // ... if this is offset_: set_offset() may have moved it
};

/// The generator used where none is given (dropout). One per thread.
Generator& default_generator();

}  // namespace grapnel
