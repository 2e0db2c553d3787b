// The model of Hopper's barriers, tensor maps and warpgroup products computes what a GPU would, and finds
// each kind of fault that is planted here.
#include <doctest/doctest.h>

#include <optional>
#include <vector>

#include "cuda_host/array.h"
#include "cuda_host/faults.h"
#include "cuda_host/hopper_kernels.cuh"
#include "cuda_host/host_threads.h"
#include "cuda_host/numbers.h"

using namespace grapnel;
using namespace grapnel::samples;
using cuda_host::Array, cuda_host::check_has, cuda_host::fault_of, cuda_host::numbers;

namespace {

template <class T>
std::vector<T> converted(const std::vector<float>& x) {
  std::vector<T> result;
  for (const float value : x) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if constexpr (std::is_same_v<T, float>)
      result.push_back(value);
    else
      result.push_back({static_cast<std::uint16_t>(bits >> 16)});
  }
  return result;
}

/// A matrix of `rows` rows that lie `pitch` elements apart, in boxes of `box_rows` rows.
template <class T>
TensorMap matrix_map(const Array<T>& x, int rows, int width, int pitch, int box_width, int box_rows,
                     Swizzle swizzle) {
  const auto u = [](int n) { return static_cast<std::uint32_t>(n); };
  return make_tensor_map<T>(
      x.data(), {2, {u(width), u(rows)}, {sizeof(T), u(pitch) * sizeof(T)}, {u(box_width), u(box_rows)}},
      swizzle);
}

template <class T, int columns, int stages, Mistake mistake = Mistake::none>
void check_product_of_tiles(int rows, int width, int depth) {
  CAPTURE(rows);
  CAPTURE(width);
  CAPTURE(depth);
  constexpr int kStep = 128 / sizeof(T), kPiece = 16 / sizeof(T);
  const int pitch = (depth + kPiece - 1) / kPiece * kPiece;
  const auto count = [&](int n) { return static_cast<std::size_t>(n * pitch); };
  const std::vector<float> x = numbers(count(rows), 1), w = numbers(count(width), 2);
  const Array<T> a(converted<T>(x)), b(converted<T>(w));
  const Array<float> d(static_cast<std::size_t>(rows * width));
  launch("product_of_tiles",
         {static_cast<unsigned>((width + columns - 1) / columns), static_cast<unsigned>((rows + 127) / 128)},
         {384}, product_of_tiles_bytes<columns, stages>, product_of_tiles<T, columns, stages, mistake>,
         matrix_map(a, rows, depth, pitch, kStep, 128, Swizzle::bytes128),
         matrix_map(b, width, depth, pitch, kStep, columns, Swizzle::bytes128), d.data(), rows, width, depth);
  std::vector<float> want;
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < width; ++j) {
      double sum = 0;
      for (int k = 0; k < depth; ++k)
        sum +=
            double{x[static_cast<std::size_t>(i * pitch + k)]} * w[static_cast<std::size_t>(j * pitch + k)];
      want.push_back(static_cast<float>(sum));
    }
  cuda_host::check_close(d.values(), want, 4);
}

}  // namespace

TEST_CASE("Hopper: a product of ragged matrices by a warpgroup that fetches and two that multiply") {
  for (const unsigned threads : {1u, 4u}) {
    const cuda_host::WithHostThreads with(threads);
    check_product_of_tiles<float, 64, 4>(150, 70, 203);
  }
  check_product_of_tiles<float, 8, 3>(1, 1, 1);
  check_product_of_tiles<float, 256, 3>(128, 256, 64);
  check_product_of_tiles<BFloat16, 64, 3>(130, 50, 333);
  check_product_of_tiles<BFloat16, 136, 4>(64, 137, 40);
}

namespace {

/// How an operand of one product is fetched and described, by the manual's canonical layouts.
template <class T>
OperandLayout operand_layout(Swizzle swizzle, Major major, int lines) {
  const int span = static_cast<int>(span_of(swizzle)), size = sizeof(T), depth = 32 / size;
  if (major == Major::k && swizzle == Swizzle::none)
    return {swizzle, 2, lines * 16 / size, 16 / size, 0, static_cast<unsigned>(lines) * 16, 128};
  if (major == Major::k) return {swizzle, 1, lines * span / size, 0, 0, 0, static_cast<unsigned>(8 * span)};
  const int boxes = (lines * size + span - 1) / span, bytes = span * depth;
  const auto half = static_cast<unsigned>(8 * span), whole = static_cast<unsigned>(bytes);
  return {swizzle,
          boxes,
          bytes / size,
          0,
          span / size,
          swizzle == Swizzle::none ? half : whole,
          swizzle == Swizzle::none ? whole : half};
}

template <class T, Major major_a, Major major_b, bool a_in_registers, int columns>
void check_product_once(Swizzle swizzle_a, Swizzle swizzle_b) {
  CAPTURE(static_cast<int>(swizzle_a));
  CAPTURE(static_cast<int>(swizzle_b));
  constexpr int kDepth = 32 / sizeof(T);
  const std::vector<float> x = numbers(64 * kDepth, 3), w = numbers(columns * kDepth, 4);
  const auto map = [&](const std::vector<float>& rows, int lines, Major major, Swizzle swizzle,
                       std::optional<Array<T>>& memory) {
    std::vector<float> values = rows;
    if (major == Major::mn)
      for (int i = 0; i < lines * kDepth; ++i)
        values[static_cast<std::size_t>(i)] = rows[static_cast<std::size_t>(i % lines * kDepth + i / lines)];
    memory.emplace(converted<T>(values));
    const int span = static_cast<int>(span_of(swizzle) / sizeof(T));
    return major == Major::k ? matrix_map(*memory, lines, kDepth, kDepth, span, lines, swizzle)
                             : matrix_map(*memory, kDepth, lines, lines, span, kDepth, swizzle);
  };
  std::optional<Array<T>> a, b;
  const TensorMap map_a = map(x, 64, major_a, swizzle_a, a), map_b = map(w, columns, major_b, swizzle_b, b);
  const Array<T> rows_of_a(converted<T>(x));
  const Array<float> d(64 * columns);
  launch("product_once", {1}, {128}, 80 * 1024 + 8,
         product_once<T, major_a, major_b, a_in_registers, columns>, map_a, map_b, d.data(), rows_of_a.data(),
         operand_layout<T>(swizzle_a, major_a, 64), operand_layout<T>(swizzle_b, major_b, columns));
  std::vector<float> want;
  for (std::size_t i = 0; i < 64; ++i)
    for (std::size_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < kDepth; ++k) sum += double{x[i * kDepth + k]} * w[j * kDepth + k];
      want.push_back(static_cast<float>(sum));
    }
  cuda_host::check_close(d.values(), want, 2);
}

constexpr Swizzle kSwizzles[] = {Swizzle::none, Swizzle::bytes32, Swizzle::bytes64, Swizzle::bytes128};

}  // namespace

TEST_CASE("Hopper: products of operands in every layout, and of A in registers") {
  for (const Swizzle a : kSwizzles) {
    for (const Swizzle b : kSwizzles) {
      check_product_once<BFloat16, Major::k, Major::k, false, 64>(a, b);
      check_product_once<BFloat16, Major::mn, Major::mn, false, 128>(a, b);
      check_product_once<float, Major::k, Major::k, false, 24>(a, b);
    }
    check_product_once<BFloat16, Major::k, Major::mn, false, 64>(a, Swizzle::bytes128);
    check_product_once<BFloat16, Major::mn, Major::k, false, 40>(a, Swizzle::bytes64);
  }
  check_product_once<BFloat16, Major::k, Major::k, true, 64>(Swizzle::none, Swizzle::bytes32);
  check_product_once<BFloat16, Major::k, Major::mn, true, 64>(Swizzle::none, Swizzle::bytes128);
  check_product_once<float, Major::k, Major::k, true, 32>(Swizzle::none, Swizzle::bytes32);
}

TEST_CASE("Hopper: boxes of any rank, beyond all edges, with steps") {
  // Size 6 x 5 x 4 x 3 x 2, innermost 8 long in memory.
  const std::vector<float> x = numbers(2 * 3 * 4 * 5 * 8);
  const Array<float> memory(x);
  TensorLayout layout{5, {6, 5, 4, 3, 2}, {4, 32, 160, 640, 1920}, {8, 4, 3, 2, 2}, {1, 2, 1, 1, 1}};
  const auto at = std::array{-1, -2, 2, 2, 0};
  const int count = 8 * 2 * 3 * 2 * 2;
  const Array<float> y(count);
  launch("fetch", {1}, {128}, count * 4 + 8, fetch<float, 5>,
         make_tensor_map<float>(memory.data(), layout, Swizzle::none), at, y.data(), count);
  int i = 0;
  for (int e = 0; e < 2; ++e)
    for (int d = 2; d < 4; ++d)
      for (int c = 2; c < 5; ++c)
        for (int b = -2; b < 2; b += 2)
          for (int a = -1; a < 7; ++a, ++i) {
            const bool inside = a >= 0 && a < 6 && b >= 0 && c < 4 && d < 3;
            const int from = (((e * 3 + d) * 4 + c) * 5 + b) * 8 + a;
            CHECK(y[static_cast<std::size_t>(i)] == (inside ? x[static_cast<std::size_t>(from)] : 0));
          }
}

TEST_CASE(
    "Hopper: columns of pixels, of any tap, across rows and pictures, with steps and beyond all edges") {
  const int n = 2, h = 6, w = 7, c = 12, channels = 8;
  const std::vector<float> x = numbers(static_cast<std::size_t>(n * h * w * c));
  const Array<float> memory(x);
  // Taps of 3 x 2, (1, 2) apart, every (2, 3)rd pixel, with padding (1, 2), all as (h, w).
  const int steps[] = {2, 3}, padding[] = {1, 2}, apart[] = {1, 2};
  const int oh = (h + 2 * padding[0] - apart[0] * 2 - 1) / steps[0] + 1,
            ow = (w + 2 * padding[1] - apart[1] - 1) / steps[1] + 1;
  const PixelLayout layout{{c, w, h, n},
                           {-padding[1], -padding[0]},
                           {padding[1] - apart[1], padding[0] - apart[0] * 2},
                           {3, 2},
                           channels,
                           16};
  const TensorMap map = make_pixel_map<float>(memory.data(), layout, Swizzle::bytes32);
  for (int r = 0; r < 3; ++r)
    for (int s = 0; s < 2; ++s)
      for (const int first : {0, 1, n * oh * ow - 5})
        for (const int channel : {0, 8}) {
          const Array<float> y(16 * channels);
          const std::array at{channel, first % ow * steps[1] - padding[1],
                              first / ow % oh * steps[0] - padding[0], first / ow / oh};
          launch("fetch_pixels", {1}, {128}, 16 * 32 + 8, fetch_pixels, map, at,
                 std::array{s * apart[1], r * apart[0]}, y.data(), channels, 16);
          for (int i = 0; i < 16 * channels; ++i) {
            const int pixel = first + i / channels, of = channel + i % channels;
            const int row = pixel / ow % oh * steps[0] - padding[0] + r * apart[0],
                      column = pixel % ow * steps[1] - padding[1] + s * apart[1], image = pixel / ow / oh;
            const bool inside = image < n && row >= 0 && row < h && column >= 0 && column < w && of < c;
            const int from = ((image * h + row) * w + column) * c + of;
            CHECK(y[static_cast<std::size_t>(i ^ (i / 32 % 2 * 4))] ==
                  (inside ? x[static_cast<std::size_t>(from)] : 0));
          }
        }
}

TEST_CASE("Hopper: floats are rounded to TF32 on the way, to nearest, ties to even") {
  const float ulp = 0x1p-10f, inf = INFINITY;
  const std::vector<float> x = {1 + ulp / 2,
                                1 + 3 * ulp / 2,
                                1 + ulp / 2 + 0x1p-22f,
                                -1 - 3 * ulp / 2,
                                1 + ulp / 2 - 0x1p-22f,
                                0x1p-126f,
                                inf,
                                2 - 0x1p-23f},
                           want = {1, 1 + 2 * ulp, 1 + ulp, -1 - 2 * ulp, 1, 0x1p-126f, inf, 2};
  const Array<float> memory(x), y(8);
  const TensorLayout layout{1, {8}, {4}, {8}};
  launch("fetch", {1}, {128}, 8 * 4 + 8, fetch<float, 1>,
         make_tensor_map<float>(memory.data(), layout, Swizzle::none, Rounding::tf32), std::array{0},
         y.data(), 8);
  CHECK(y.values() == want);
}

TEST_CASE("Hopper: swizzles move pieces of 16 bytes by their row") {
  const std::vector<float> x = numbers(16 * 32);
  const Array<float> memory(x), y(16 * 32);
  launch("fetch", {1}, {128}, 16 * 128 + 8, fetch<float, 2>,
         matrix_map(memory, 16, 32, 32, 32, 16, Swizzle::bytes128), std::array{0, 0}, y.data(), 16 * 32);
  for (std::size_t i = 0; i < 16 * 32; ++i) CHECK(y[i ^ (i / 32 % 8 * 4)] == x[i]);
  const Array<float> z(32 * 8);
  launch("fetch", {1}, {128}, 32 * 32 + 8, fetch<float, 2>,
         matrix_map(memory, 32, 8, 8, 8, 32, Swizzle::bytes32), std::array{0, 0}, z.data(), 32 * 8);
  for (std::size_t i = 0; i < 32 * 8; ++i) CHECK(z[i ^ (i / 32 % 2 * 4)] == x[i]);
}

namespace {

template <Mistake mistake = Mistake::none>
std::vector<float> one_more(const std::vector<float>& x, int rows, int width) {
  const Array<float> from(x), to(std::vector<float>(x.size(), -9.0f));
  launch("add_one", {static_cast<unsigned>((width + 31) / 32), static_cast<unsigned>((rows + 7) / 8)}, {128},
         8 * 128 + 8, add_one<mistake>, matrix_map(from, rows, width, width + 3, 32, 8, Swizzle::bytes128),
         matrix_map(to, rows, width, width + 3, 32, 8, Swizzle::bytes128), 32, 8, 32 * 8);
  return to.values();
}

}  // namespace

TEST_CASE("Hopper: tiles are stored where the tensor is, and nowhere else") {
  const int rows = 13, width = 45;
  const std::vector<float> x = numbers(13 * 48), y = one_more(x, rows, width);
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(y[i] == (i % 48 < 45 ? x[i] + 1 : -9));
}

TEST_CASE("Hopper, faults: pixels that no convolution has, and maps of the other kind") {
  const Array<float> x(numbers(4 * 5 * 8)), y(8 * 8);
  const PixelLayout layout{{8, 5, 4, 1}, {-1, -1}, {-1, -1}, {1, 1}, 8, 8};
  const auto fetched = [&](const TensorMap& map, std::array<int, 4> at, std::array<int, 2> offset) {
    return fault_of([&] {
      launch("fetch_pixels", {1}, {128}, 8 * 32 + 8, fetch_pixels, map, at, offset, y.data(), 8, 8);
    });
  };
  const TensorMap map = make_pixel_map<float>(x.data(), layout, Swizzle::bytes32);
  CHECK(fetched(map, {0, 3, 2, 0}, {2, 2}) == "none");
  check_has(fetched(map, {0, 4, 2, 0}, {0, 0}), "pixels from 4 on in dimension 1, expected -1 to 3");
  check_has(fetched(map, {0, 0, -2, 0}, {0, 0}), "pixels from -2 on in dimension 2, expected -1 to 2");
  check_has(fetched(map, {0, 0, 0, 0}, {0, 256}), "an offset of 256, expected 0 to 255");
  check_has(fetched(matrix_map(x, 20, 8, 8, 8, 8, Swizzle::bytes32), {0, 0, 0, 0}, {0, 0}),
            "a tensor map of boxes, expected one of pixels");
  check_has(fault_of([&] {
              launch("fetch", {1}, {128}, 8 * 32 + 8, fetch<float, 4>, map, std::array{0, 0, 0, 0}, y.data(),
                     8 * 8);
            }),
            "a tensor map of pixels, expected one of boxes");
  const auto refused = [&](auto&& change) {
    PixelLayout wrong = layout;
    change(wrong);
    return fault_of([&] { make_pixel_map<float>(x.data(), wrong, Swizzle::bytes32); });
  };
  check_has(refused([](PixelLayout& l) { l.upper[1] = -5; }), "no pixels between the corners in dimension 2");
  check_has(refused([](PixelLayout& l) { l.lower[0] = -129; }), "corners -129 and -1 in dimension 1");
  check_has(refused([](PixelLayout& l) { l.pixels = 1025; }), "a box of 1025 in dimension 1");
  check_has(refused([](PixelLayout& l) { l.steps[0] = 9; }), "a step of 9 in dimension 1");
  check_has(refused([](PixelLayout& l) { l.sizes[0] = 6; }), "a stride of 24 bytes in dimension 1");
}

TEST_CASE("Hopper, faults: stages and tiles that others still read") {
  check_has(fault_of([] { check_product_of_tiles<float, 8, 2, Mistake::early_release>(64, 8, 200); }),
            "races with a read by a product of warpgroup");
  check_has(fault_of([] { one_more<Mistake::no_proxy_fence>(numbers(8 * 32), 8, 29); }),
            "called no fence_proxy_async since");
}
