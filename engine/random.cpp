#include "grapnel/engine/random.h"

#include <cmath>
#include <numbers>

namespace grapnel {

std::uint32_t Generator::bits_at(std::uint64_t seed, std::uint64_t index) {
  // One block gives four numbers; the block's counter is index / 4.
  std::uint32_t c[4] = {static_cast<std::uint32_t>(index >> 2), static_cast<std::uint32_t>(index >> 34), 0,
                        0};
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c[2];
    const std::uint32_t next[4] = {
        static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
        static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c[index & 3];
}

double Generator::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

Generator& default_generator() {
  thread_local Generator generator;
  return generator;
}

}  // namespace grapnel
