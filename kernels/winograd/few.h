// The inner loop for a few tiles of 4x4, included by portable.cpp, avx2.cpp and avx512.cpp: filters are
// mapped in registers, a row of places at a time, and multiplied there, never stored.
#pragma once

#include "grapnel/kernels/winograd/maps.h"

namespace grapnel::kernels {
namespace {

/// Row `i` of Four::filter without its scale, of taps j, 3 + j and 6 + j.
template <int i>
inline Floats filter_row(const float* taps, int j) {
  Floats top, middle, bottom;
  load(top, taps + j * kLanes);
  load(middle, taps + (3 + j) * kLanes);
  load(bottom, taps + (6 + j) * kLanes);
  if constexpr (i == 0) return top;
  if constexpr (i == 5) return bottom;
  constexpr float even = i < 3 ? 0.5f : 2.0f, odd = (i % 2 ? 1 : -1) * (i < 3 ? Four::p : Four::q);
  return (top + even * bottom) + odd * middle;
}

/// Row `i` of the products' places.
template <int i, int kTiles>
void multiply_row(const FewTiles& t) {
  constexpr int kReach = Four::kReach, kPlaces = kReach * kReach;
  float* products = t.products + i * kReach * kTiles * kLanes;
  Floats sums[kReach][kTiles] = {};
  const float* taps = t.taps;
  const float* mapped = t.mapped + i * kReach * kTiles;
  // What follows the taps, divided among the rows and steps.
  const float* prefetch = t.next + i * t.depth * (9 * kLanes / kReach);
  for (std::int64_t c = 0; c < t.depth; ++c) {
    const auto add = [&](int j, const Floats& filter) {
#pragma GCC unroll 4
      for (int tile = 0; tile < kTiles; ++tile) sums[j][tile] += mapped[j * kTiles + tile] * filter;
    };
    const Floats left = filter_row<i>(taps, 0), middle = filter_row<i>(taps, 1);
    const Floats right = filter_row<i>(taps, 2);
    const Floats even_p = left + 0.5f * right, even_q = left + 2.0f * right;
    add(0, left);
    add(1, even_p + Four::p * middle);
    add(2, even_p - Four::p * middle);
    add(3, even_q + Four::q * middle);
    add(4, even_q - Four::q * middle);
    add(5, right);
    __builtin_prefetch(prefetch, 0, 2);
    __builtin_prefetch(prefetch + 16, 0, 2);
    prefetch += 9 * kLanes / kReach;
    taps += 9 * kLanes;
    mapped += kPlaces * kTiles;
  }
#pragma GCC unroll 6
  for (int j = 0; j < kReach; ++j) {
#pragma GCC unroll 4
    for (int tile = 0; tile < kTiles; ++tile) {
      float* to = products + (j * kTiles + tile) * kLanes;
      Floats before{};
      if (!t.first) load(before, to);
      store(to, before + Four::kScale[i] * Four::kScale[j] * sums[j][tile]);
    }
  }
}

template <int kTiles>
void multiply_few(const FewTiles& t) {
  multiply_row<0, kTiles>(t);
  multiply_row<1, kTiles>(t);
  multiply_row<2, kTiles>(t);
  multiply_row<3, kTiles>(t);
  multiply_row<4, kTiles>(t);
  multiply_row<5, kTiles>(t);
}

template <int kTiles>
constexpr FewKernel make_few() {
  return {"winograd4few", kTiles, multiply_few<kTiles>};
}

}  // namespace
}  // namespace grapnel::kernels
