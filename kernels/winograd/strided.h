// The maps of filters that move by two, included by portable.cpp, avx2.cpp and avx512.cpp. Taps at even
// places only meet inputs at even places, odd ones odd ones: two convolutions without stride, of which each
// is made by tiles, and whose outputs are added.
#pragma once

#include "grapnel/kernels/winograd/maps.h"

namespace grapnel::kernels {
namespace {

/// kOutputs outputs, by points in pairs, +-p for every p in Points::p, and infinity. What one pair's rows of
/// the three matrices have in common with one another, and p with -p, is computed once.
template <int kOutputs_, class Points>
struct Pairs {
  static constexpr int kPairs = sizeof(Points::p) / sizeof(Points::p[0]);
  static constexpr int kOutputs = kOutputs_, kReach = 2 * kPairs + 1, kTaps = kReach - kOutputs + 1;
  static constexpr int kFilters = kReach;

  /// At p: (x + p) q(x^2), q the product of x^2 - r^2 over the other pairs; at infinity that over all.
  static void input(const Floats* d, int s, Floats* t, int ts) {
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
      Floats even = kNumbers.polynomial[i][0] * d[0], odd = kNumbers.polynomial[i][0] * d[s];
#pragma GCC unroll 4
      for (int k = 1; k < kPairs; ++k) {
        even += kNumbers.polynomial[i][k] * d[2 * k * s];
        odd += kNumbers.polynomial[i][k] * d[(2 * k + 1) * s];
      }
      t[2 * i * ts] = odd + kNumbers.power[i][1] * even;
      t[(2 * i + 1) * ts] = odd - kNumbers.power[i][1] * even;
    }
    Floats last = kNumbers.polynomial[kPairs][0] * d[0];
#pragma GCC unroll 4
    for (int k = 1; k <= kPairs; ++k) last += kNumbers.polynomial[kPairs][k] * d[2 * k * s];
    t[2 * kPairs * ts] = last;
  }
  static void output(const Floats* m, int s, Floats* y, int ys) {
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) y[o * ys] = Floats{};
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
      const Floats even = m[2 * i * s] + m[(2 * i + 1) * s], odd = m[2 * i * s] - m[(2 * i + 1) * s];
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) y[o * ys] += kNumbers.power[i][o] * (o % 2 ? odd : even);
    }
    y[(kOutputs - 1) * ys] += m[2 * kPairs * s];
  }
  static void filter(const Floats* g, int s, Floats* u, int us) {
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
      Floats even{}, odd{};
#pragma GCC unroll 4
      for (int k = 0; k < kTaps; ++k) (k % 2 ? odd : even) += kNumbers.power[i][k] * g[k * s];
      u[2 * i * us] = kNumbers.scale[i] * (even + odd);
      u[(2 * i + 1) * us] = kNumbers.scale[i] * (odd - even);
    }
    u[2 * kPairs * us] = g[(kTaps - 1) * s];
  }

 private:
  struct Numbers {
    float polynomial[kPairs + 1][kPairs + 1];  // coefficients in x^2 of q, pair by pair, and of the last
    float power[kPairs][kReach];
    float scale[kPairs];  // 1 / product of the distances from p to the other points
  };
  static constexpr Numbers numbers() {
    Numbers n{};
    for (int i = 0; i <= kPairs; ++i) {
      double q[kPairs + 1] = {1};
      for (int j = 0; j < kPairs; ++j) {
        if (j == i) continue;
        for (int k = kPairs; k >= 0; --k) q[k] = (k > 0 ? q[k - 1] : 0) - Points::p[j] * Points::p[j] * q[k];
      }
      for (int k = 0; k <= kPairs; ++k) n.polynomial[i][k] = float(q[k]);
    }
    for (int i = 0; i < kPairs; ++i) {
      double power = 1, distances = 2 * Points::p[i];
      for (int k = 0; k < kReach; ++k, power *= Points::p[i]) n.power[i][k] = float(power);
      for (int j = 0; j < kPairs; ++j)
        if (j != i) distances *= Points::p[i] * Points::p[i] - Points::p[j] * Points::p[j];
      n.scale[i] = float(1 / distances);
    }
    return n;
  }
  static constexpr Numbers kNumbers = numbers();
};

/// One tap: every output is an input times it.
template <int kOutputs_>
struct OneTap {
  static constexpr int kOutputs = kOutputs_, kReach = kOutputs, kTaps = 1, kFilters = 1;

  static void input(const Floats* d, int s, Floats* t, int ts) {
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) t[i * ts] = d[i * s];
  }
  static void output(const Floats* m, int s, Floats* y, int ys) {
    input(m, s, y, ys);
  }
  static void filter(const Floats* g, int, Floats* u, int) {
    u[0] = g[0];
  }
};

/// A filter that moves by two, of the taps of Even and Odd in turn.
template <class Even, class Odd>
struct MovesByTwo {
  static constexpr int kOutputs = Even::kOutputs, kReach = Even::kReach + Odd::kReach;
  static constexpr int kTaps = Even::kTaps + Odd::kTaps, kFilters = Even::kFilters + Odd::kFilters;

  static void input(const Floats* d, int s, Floats* t, int ts) {
    Even::input(d, 2 * s, t, ts);
    Odd::input(d + s, 2 * s, t + Even::kReach * ts, ts);
  }
  static void output(const Floats* m, int s, Floats* y, int ys) {
    Floats odd[kOutputs];
    Even::output(m, s, y, ys);
    Odd::output(m + Even::kReach * s, s, odd, 1);
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) y[i * ys] += odd[i];
  }
  static void filter(const Floats* g, int s, Floats* u, int us) {
    Even::filter(g, 2 * s, u, us);
    Odd::filter(g + s, 2 * s, u + Even::kFilters * us, us);
  }
};

struct TwoByTwo {
  static constexpr double p[] = {1};
};
struct FourByTwo {
  static constexpr double p[] = {0.5, 1.25};
};
struct FourByFour {
  static constexpr double p[] = {0.25, 0.875, 1.75};
};

using TwoStrided = MovesByTwo<Pairs<2, TwoByTwo>, OneTap<2>>;
using FourStrided = MovesByTwo<Pairs<4, FourByTwo>, OneTap<4>>;
using Stem = MovesByTwo<Pairs<4, FourByFour>, Four>;

/// Three taps a side.
template <class Points>
constexpr WinogradMaps make_strided(const char* name) {
  constexpr int kOutputs = Points::kOutputs, kReach = Points::kReach;
  static_assert(Points::kTaps == 3 && kReach <= kMaxReach);
  return {.name = name,
          .outputs = kOutputs,
          .reach = kReach,
          .filters = Points::kFilters,
          .input = map_pixels<Square<Points::input, kReach, kReach>>,
          .output = map_output<Square<Points::output, kReach, kOutputs>, kOutputs>,
          .filter = map_planes<Square<Points::filter, 3, Points::kFilters>>,
          .output_grad = nullptr,
          .filter_grad = nullptr};
}

/// Seven taps, rows only.
constexpr WinogradMaps make_stem() {
  static_assert(Stem::kTaps == kStemTaps && Stem::kReach == Stem::kFilters);
  return {.name = "winograd4rows",
          .outputs = Stem::kOutputs,
          .reach = Stem::kReach,
          .filters = Stem::kFilters,
          .input = map_pixels<Column<Stem::input, Stem::kReach, Stem::kReach>>,
          .output = map_output<Column<Stem::output, Stem::kReach, Stem::kOutputs>, 1>,
          .filter = map_planes<Column<Stem::filter, Stem::kTaps, Stem::kReach>>,
          .output_grad = nullptr,
          .filter_grad = nullptr};
}

}  // namespace
}  // namespace grapnel::kernels
