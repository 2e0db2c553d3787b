// The three maps of each size of tile and their transposes, on vectors of channels: included by portable.cpp,
// avx2.cpp and avx512.cpp. One dimension is written out; two are that along columns, then along rows.
#pragma once

#include "grapnel/kernels/common/epilogue.h"
#include "grapnel/kernels/winograd/winograd.h"

namespace grapnel::kernels {
namespace {

/// Points 0, 1, -1, infinity. A line has its elements `s` apart.
struct Two {
  static constexpr const char* kName = "winograd2";
  static constexpr int kOutputs = 2, kReach = 4;

  /// B^T d.
  static void input(const Floats* d, int s, Floats* t, int ts) {
    t[0] = d[0] - d[2 * s];
    t[ts] = d[2 * s] + d[s];
    t[2 * ts] = d[2 * s] - d[s];
    t[3 * ts] = d[3 * s] - d[s];
  }
  /// A^T m.
  static void output(const Floats* m, int s, Floats* y, int ys) {
    y[0] = m[0] + (m[s] + m[2 * s]);
    y[ys] = (m[s] - m[2 * s]) + m[3 * s];
  }
  /// A y, its transpose.
  static void output_grad(const Floats* y, int s, Floats* t, int ts) {
    t[0] = y[0];
    t[ts] = y[0] + y[s];
    t[2 * ts] = y[0] - y[s];
    t[3 * ts] = y[s];
  }
  /// G g.
  static void filter(const Floats* g, int s, Floats* u, int us) {
    const Floats even = 0.5f * (g[0] + g[2 * s]), odd = 0.5f * g[s];
    u[0] = g[0];
    u[us] = even + odd;
    u[2 * us] = even - odd;
    u[3 * us] = g[2 * s];
  }
  /// G^T s, its transpose.
  static void filter_grad(const Floats* u, int s, Floats* g, int gs) {
    const Floats even = 0.5f * (u[s] + u[2 * s]);
    g[0] = u[0] + even;
    g[gs] = 0.5f * (u[s] - u[2 * s]);
    g[2 * gs] = even + u[3 * s];
  }
};

/// Points 0, +-p, +-q, infinity with p = sqrt(1/2), q = sqrt(2): p q = 1, p^2 + q^2 = 5/2.
struct Four {
  static constexpr const char* kName = "winograd4";
  static constexpr int kOutputs = 4, kReach = 6, kTaps = 3, kFilters = kReach;
  static constexpr float p = 0.70710678118654752f, q = 1.41421356237309505f;
  /// 1 / product of the distances from each point to the others.
  static constexpr float kScale[kReach] = {1, -2.0f / 3, -2.0f / 3, 1.0f / 6, 1.0f / 6, 1};

  static void input(const Floats* d, int s, Floats* t, int ts) {
    const Floats even_p = d[4 * s] - 2.0f * d[2 * s], odd_p = d[3 * s] - 2.0f * d[s];
    const Floats even_q = d[4 * s] - 0.5f * d[2 * s], odd_q = d[3 * s] - 0.5f * d[s];
    t[0] = (d[0] - 2.5f * d[2 * s]) + d[4 * s];
    t[ts] = even_p + p * odd_p;
    t[2 * ts] = even_p - p * odd_p;
    t[3 * ts] = even_q + q * odd_q;
    t[4 * ts] = even_q - q * odd_q;
    t[5 * ts] = (d[s] - 2.5f * d[3 * s]) + d[5 * s];
  }
  static void output(const Floats* m, int s, Floats* y, int ys) {
    const Floats even_p = m[s] + m[2 * s], odd_p = p * (m[s] - m[2 * s]);
    const Floats even_q = m[3 * s] + m[4 * s], odd_q = q * (m[3 * s] - m[4 * s]);
    y[0] = m[0] + (even_p + even_q);
    y[ys] = odd_p + odd_q;
    y[2 * ys] = 0.5f * even_p + 2.0f * even_q;
    y[3 * ys] = (0.5f * odd_p + 2.0f * odd_q) + m[5 * s];
  }
  static void output_grad(const Floats* y, int s, Floats* t, int ts) {
    const Floats even_p = y[0] + 0.5f * y[2 * s], odd_p = y[s] + 0.5f * y[3 * s];
    const Floats even_q = y[0] + 2.0f * y[2 * s], odd_q = y[s] + 2.0f * y[3 * s];
    t[0] = y[0];
    t[ts] = even_p + p * odd_p;
    t[2 * ts] = even_p - p * odd_p;
    t[3 * ts] = even_q + q * odd_q;
    t[4 * ts] = even_q - q * odd_q;
    t[5 * ts] = y[3 * s];
  }
  static void filter(const Floats* g, int s, Floats* u, int us) {
    const Floats even_p = g[0] + 0.5f * g[2 * s], even_q = g[0] + 2.0f * g[2 * s];
    u[0] = g[0];
    u[us] = kAtP * (even_p + p * g[s]);
    u[2 * us] = kAtP * (even_p - p * g[s]);
    u[3 * us] = kAtQ * (even_q + q * g[s]);
    u[4 * us] = kAtQ * (even_q - q * g[s]);
    u[5 * us] = g[2 * s];
  }
  static void filter_grad(const Floats* u, int s, Floats* g, int gs) {
    const Floats even_p = kAtP * (u[s] + u[2 * s]), odd_p = kAtP * (u[s] - u[2 * s]);
    const Floats even_q = kAtQ * (u[3 * s] + u[4 * s]), odd_q = kAtQ * (u[3 * s] - u[4 * s]);
    g[0] = u[0] + (even_p + even_q);
    g[gs] = p * odd_p + q * odd_q;
    g[2 * gs] = (0.5f * even_p + 2.0f * even_q) + u[5 * s];
  }

 private:
  static constexpr float kAtP = kScale[1], kAtQ = kScale[3];
};

/// Points 0, +-1, +-2, +-1/2, infinity.
struct Six {
  static constexpr const char* kName = "winograd6";
  static constexpr int kOutputs = 6, kReach = 8;

  static void input(const Floats* d, int s, Floats* t, int ts) {
    const Floats even_1 = (d[6 * s] + d[2 * s]) - 4.25f * d[4 * s];
    const Floats odd_1 = (d[5 * s] + d[s]) - 4.25f * d[3 * s];
    const Floats even_2 = d[6 * s] + (0.25f * d[2 * s] - 1.25f * d[4 * s]);
    const Floats odd_2 = 2.0f * d[5 * s] + (0.5f * d[s] - 2.5f * d[3 * s]);
    const Floats even_h = d[6 * s] + (4.0f * d[2 * s] - 5.0f * d[4 * s]);
    const Floats odd_h = 0.5f * d[5 * s] + (2.0f * d[s] - 2.5f * d[3 * s]);
    t[0] = (d[0] - d[6 * s]) + 5.25f * (d[4 * s] - d[2 * s]);
    t[ts] = even_1 + odd_1;
    t[2 * ts] = even_1 - odd_1;
    t[3 * ts] = even_2 + odd_2;
    t[4 * ts] = even_2 - odd_2;
    t[5 * ts] = even_h + odd_h;
    t[6 * ts] = even_h - odd_h;
    t[7 * ts] = (d[7 * s] - d[s]) + 5.25f * (d[3 * s] - d[5 * s]);
  }
  static void output(const Floats* m, int s, Floats* y, int ys) {
    const Floats even_1 = m[s] + m[2 * s], odd_1 = m[s] - m[2 * s];
    const Floats even_2 = m[3 * s] + m[4 * s], odd_2 = m[3 * s] - m[4 * s];
    const Floats even_h = m[5 * s] + m[6 * s], odd_h = m[5 * s] - m[6 * s];
    y[0] = m[0] + (even_1 + (even_2 + even_h));
    y[ys] = odd_1 + (2.0f * odd_2 + 0.5f * odd_h);
    y[2 * ys] = even_1 + (4.0f * even_2 + 0.25f * even_h);
    y[3 * ys] = odd_1 + (8.0f * odd_2 + 0.125f * odd_h);
    y[4 * ys] = even_1 + (16.0f * even_2 + 0.0625f * even_h);
    y[5 * ys] = (odd_1 + (32.0f * odd_2 + 0.03125f * odd_h)) + m[7 * s];
  }
  static void output_grad(const Floats* y, int s, Floats* t, int ts) {
    const Floats even_1 = y[0] + (y[2 * s] + y[4 * s]), odd_1 = y[s] + (y[3 * s] + y[5 * s]);
    const Floats even_2 = y[0] + (4.0f * y[2 * s] + 16.0f * y[4 * s]);
    const Floats odd_2 = 2.0f * y[s] + (8.0f * y[3 * s] + 32.0f * y[5 * s]);
    const Floats even_h = y[0] + (0.25f * y[2 * s] + 0.0625f * y[4 * s]);
    const Floats odd_h = 0.5f * y[s] + (0.125f * y[3 * s] + 0.03125f * y[5 * s]);
    t[0] = y[0];
    t[ts] = even_1 + odd_1;
    t[2 * ts] = even_1 - odd_1;
    t[3 * ts] = even_2 + odd_2;
    t[4 * ts] = even_2 - odd_2;
    t[5 * ts] = even_h + odd_h;
    t[6 * ts] = even_h - odd_h;
    t[7 * ts] = y[5 * s];
  }
  static void filter(const Floats* g, int s, Floats* u, int us) {
    const Floats even_1 = kAt1 * (g[0] + g[2 * s]), odd_1 = kAt1 * g[s];
    const Floats even_2 = kAt2 * (g[0] + 4.0f * g[2 * s]), odd_2 = kAt2 * 2.0f * g[s];
    const Floats even_h = kAtHalf * (g[0] + 0.25f * g[2 * s]), odd_h = kAtHalf * 0.5f * g[s];
    u[0] = g[0];
    u[us] = even_1 + odd_1;
    u[2 * us] = even_1 - odd_1;
    u[3 * us] = even_2 + odd_2;
    u[4 * us] = even_2 - odd_2;
    u[5 * us] = even_h + odd_h;
    u[6 * us] = even_h - odd_h;
    u[7 * us] = g[2 * s];
  }
  static void filter_grad(const Floats* u, int s, Floats* g, int gs) {
    const Floats even_1 = kAt1 * (u[s] + u[2 * s]), odd_1 = kAt1 * (u[s] - u[2 * s]);
    const Floats even_2 = kAt2 * (u[3 * s] + u[4 * s]), odd_2 = kAt2 * (u[3 * s] - u[4 * s]);
    const Floats even_h = kAtHalf * (u[5 * s] + u[6 * s]), odd_h = kAtHalf * (u[5 * s] - u[6 * s]);
    g[0] = u[0] + (even_1 + (even_2 + even_h));
    g[gs] = odd_1 + (2.0f * odd_2 + 0.5f * odd_h);
    g[2 * gs] = (even_1 + (4.0f * even_2 + 0.25f * even_h)) + u[7 * s];
  }

 private:
  static constexpr float kAt1 = -2.0f / 9, kAt2 = 1.0f / 90, kAtHalf = 32.0f / 45;
};

using Line = void (*)(const Floats*, int, Floats*, int);

/// `line`, which maps kIn elements to kOut, along the columns and then the rows of a kIn x kIn square.
template <Line line, int kIn, int kOut>
struct Square {
  static constexpr int kFrom = kIn * kIn, kTo = kOut * kOut;

  static void map(const Floats* square, Floats* result) {
    Floats half[kOut * kIn];
#pragma GCC unroll 16
    for (int j = 0; j < kIn; ++j) line(square + j, kIn, half + j, kIn);
#pragma GCC unroll 16
    for (int i = 0; i < kOut; ++i) line(half + i * kIn, 1, result + i * kOut, 1);
  }
};

/// `line` alone.
template <Line line, int kIn, int kOut>
struct Column {
  static constexpr int kFrom = kIn, kTo = kOut;

  static void map(const Floats* column, Floats* result) { line(column, 1, result, 1); }
};

/// body(channel, whole, count) for vectors of channels and, at the end, one that is not whole.
template <class Body>
inline void for_each_vector(std::int64_t channels, const Body& body) {
  std::int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) body.template operator()<true>(c, 0);
  if (c < channels) body.template operator()<false>(c, channels - c);
}

/// Maps the squares (or columns) of pixels that `from` points to.
template <class Map>
void map_pixels(const float* const* from, std::int64_t channels, float* to, std::int64_t plane) {
  for_each_vector(channels, [=]<bool kWhole>(std::int64_t c, std::int64_t count) {
    Floats square[Map::kFrom], result[Map::kTo];
#pragma GCC unroll 128
    for (int i = 0; i < Map::kFrom; ++i) load<kWhole>(square[i], from[i] + c, count);
    Map::map(square, result);
#pragma GCC unroll 128
    for (int i = 0; i < Map::kTo; ++i) store<kWhole>(to + i * plane + c, result[i], count);
  });
}

/// Maps squares (or columns) whose elements lie `in_plane` apart.
template <class Map>
void map_planes(const float* from, std::int64_t in_plane, std::int64_t channels, float* to,
                std::int64_t out_plane) {
  for_each_vector(channels, [=]<bool kWhole>(std::int64_t c, std::int64_t count) {
    Floats square[Map::kFrom], result[Map::kTo];
#pragma GCC unroll 128
    for (int i = 0; i < Map::kFrom; ++i) load<kWhole>(square[i], from + i * in_plane + c, count);
    Map::map(square, result);
#pragma GCC unroll 128
    for (int i = 0; i < Map::kTo; ++i) store<kWhole>(to + i * out_plane + c, result[i], count);
  });
}

/// Maps back to a tile of which a row is kColumns wide.
template <class Map, int kColumns>
void map_output(const float* m, std::int64_t plane, std::int64_t channels, float* y, const OutputTile& tile,
                const Epilogue<float>& epilogue) {
  for_each_vector(channels, [&]<bool kWhole>(std::int64_t c, std::int64_t count) {
    Floats square[Map::kFrom], result[Map::kTo];
#pragma GCC unroll 128
    for (int i = 0; i < Map::kFrom; ++i) load<kWhole>(square[i], m + i * plane + c, count);
    Map::map(square, result);
    for (int i = 0; i < tile.rows; ++i)
      for (int j = 0; j < tile.columns; ++j) {
        const std::int64_t at = tile.at + i * tile.row + j * tile.pixel + c;
        store<kWhole>(y + at, finished<kWhole>(result[i * kColumns + j], epilogue, at, c, count), count);
      }
  });
}

template <class Points>
constexpr WinogradMaps make_maps() {
  constexpr int kOutputs = Points::kOutputs, kReach = Points::kReach;
  return {Points::kName,
          kOutputs,
          kReach,
          kReach,
          map_pixels<Square<Points::input, kReach, kReach>>,
          map_output<Square<Points::output, kReach, kOutputs>, kOutputs>,
          map_planes<Square<Points::filter, 3, kReach>>,
          map_pixels<Square<Points::output_grad, kOutputs, kReach>>,
          map_planes<Square<Points::filter_grad, kReach, 3>>};
}

}  // namespace
}  // namespace grapnel::kernels
