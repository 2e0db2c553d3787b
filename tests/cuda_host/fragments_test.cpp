// Products by ldmatrix and mma.sync on the model of a GPU: each tile and layout, banks, roundings.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "cuda_host/convolutions.h"
#include "grapnel/kernels/accelerator.h"
#include "grapnel/kernels/conv2d/sources.cuh"
#include "grapnel/kernels/gemm/fragments.cuh"
#include "grapnel/kernels/gemm/strided.cuh"

using namespace grapnel;
using namespace grapnel::kernels;
using namespace grapnel::cuda_host;

namespace {

const FloatKernels<float>& cuda_gemm() {
  static const FloatKernels<float> table = [] {
    FloatKernels<float> result{};
    fill_gemm_cuda(result);
    return result;
  }();
  return table;
}

template <class T>
T element_of(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    REQUIRE((bits & 0xffff) == 0);
    return {static_cast<std::uint16_t>(bits >> 16)};
  }
}
template <class T>
std::vector<T> elements_of(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float value : values) result.push_back(element_of<T>(value));
  return result;
}

/// rows (m or n) by k, dense, laid along k or across, in lines of whole pieces with zeros behind.
template <class Way, bool along_k>
struct Laid {
  using T = ElementOf<Way>;
  Index pitch;
  Array<T> memory;
  int rows;

  Laid(const std::vector<float>& values, int row_count, int k)
      : pitch(whole_pieces<Way>(along_k ? k : row_count)),
        memory([&] {
          std::vector<T> laid(static_cast<std::size_t>(pitch * (along_k ? row_count : k)), element_of<T>(0));
          for (Index i = 0; i < row_count; ++i)
            for (Index j = 0; j < k; ++j)
              laid[static_cast<std::size_t>(along_k ? i * pitch + j : j * pitch + i)] =
                  element_of<T>(values[static_cast<std::size_t>(i * k + j)]);
          return laid;
        }()),
        rows(row_count) {}

  Strided<T, along_k, kPiece<Way>> source() const {
    return {memory.data(), along_k ? pitch : 1, along_k ? 1 : pitch, rows, 0};
  }
};

template <class Multiply, class A, class B>
Traffic launch_product(const ProductSizes& s, const A& a, const B& b, float* c) {
  const int tiles = tiles_for(s.m, Multiply::kM) * tiles_for(s.n, Multiply::kN);
  return device::launch("product", {static_cast<unsigned>(tiles)}, {Multiply::kThreads},
                        ProductMemory<Multiply, A, B>::kBytes, product_kernel<Multiply, A, B, StoreSum>, s, a,
                        b, StoreSum{c, nullptr, s.n}, s.n % 4 == 0, static_cast<float*>(nullptr));
}

/// C = A B of numbers that are exact in every precision.
template <class Way, class Multiply, bool along_a, bool along_b>
Traffic check_product(int m, int n, int k) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  const std::vector<float> a = numbers(static_cast<std::size_t>(m * k), 1),
                           b = numbers(static_cast<std::size_t>(n * k), 2);
  const Laid<Way, along_a> left(a, m, k);
  const Laid<Way, along_b> right(b, n, k);
  const Array<float> c(static_cast<std::size_t>(m * n));
  const Traffic traffic = launch_product<Multiply>({1, m, n, k, 1}, left.source(), right.source(), c.data());
  std::vector<float> expected(c.values().size());
  reference().gemm({m, n, k, k, 1, 1, k, n}, expected.data(), a.data(), b.data(), nullptr);
  check_close(c.values(), expected, 4);
  return traffic;
}

/// Calls body.operator()<Way, Multiply, along_a, along_b>() for every tile and layout.
template <class Body>
void for_each_product(const Body& body) {
  const auto layouts = [&]<class Way, class Multiply>() {
    body.template operator()<Way, Multiply, true, true>();
    body.template operator()<Way, Multiply, true, false>();
    body.template operator()<Way, Multiply, false, true>();
    body.template operator()<Way, Multiply, false, false>();
  };
  const auto tiles = [&]<class Way>() {
    layouts.template operator()<Way, MultiplyFragments<Way, 128, 128>>();
    layouts.template operator()<Way, MultiplyFragments<Way, 128, 64>>();
    layouts.template operator()<Way, MultiplyFragments<Way, 64, 64>>();
  };
  tiles.template operator()<AsTf32>();
  tiles.template operator()<AsBf16>();
}

/// The two that tensor cores take.
template <class Body>
void by_tensor_cores(const Body& body) {
  in_every_precision([&](Precision precision) {
    if (precision != Precision::fp32) body(precision);
  });
}

std::vector<float> any_numbers(std::size_t count, unsigned seed) {
  std::vector<float> values = numbers(count, seed);
  for (float& value : values) value = std::sin(100 * value);
  return values;
}

float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

TEST_CASE("fragments: every tile, operands along k and across, with tails everywhere") {
  for_each_product([]<class Way, class Multiply, bool along_a, bool along_b>() {
    constexpr int kDepth = Multiply::kDepth;
    check_product<Way, Multiply, along_a, along_b>(Multiply::kM - 3, Multiply::kN + 4, 3 * kDepth + 5);
    if (Multiply::kFolds)
      check_product<Way, Multiply, along_a, along_b>(Multiply::kM + 1, 7, (2 * kStepsTogether + 1) * kDepth);
  });
  check_product<AsTf32, MultiplyFragments<AsTf32, 64, 64>, true, true>(3, 5, 0);
}

TEST_CASE("fragments: neither copies nor reads meet a bank twice, and none is read twice") {
  const CountTraffic counting;
  for_each_product([]<class Way, class Multiply, bool along_a, bool along_b>() {
    CAPTURE(Multiply::kM);
    CAPTURE(Multiply::kN);
    CAPTURE(sizeof(ElementOf<Way>));
    CAPTURE(along_a);
    CAPTURE(along_b);
    // A step more makes no other difference.
    const auto traffic_of = [](int steps) {
      return check_product<Way, Multiply, along_a, along_b>(Multiply::kM, Multiply::kN,
                                                            steps * Multiply::kDepth);
    };
    const Traffic more = traffic_of(3), less = traffic_of(2);
    const auto requests = more.shared_requests - less.shared_requests;
    constexpr int kRows = Multiply::kM + Multiply::kN;
    // Of 512 bytes: 64 of each row by copies; a warp of four reads half of the rows.
    CHECK(requests == kRows * 64 / 512 * (1 + 2));
    CHECK(more.shared_passes - less.shared_passes == 4 * requests);
  });
}

TEST_CASE("fragments: TF32 is the nearest, ties away from zero, NaN and infinity stay") {
  const float ulp = 0x1p-10f;
  const std::vector<std::pair<float, float>> pairs = {
      {1 + ulp / 2, 1 + ulp},
      {1 + 3 * ulp / 2, 1 + 2 * ulp},
      {1 + ulp / 2 - 0x1p-23f, 1},
      {-1 - ulp / 2, -1 - ulp},
      {2 - 0x1p-23f, 2},
      {std::numeric_limits<float>::max(), INFINITY},
      {INFINITY, INFINITY},
      {-INFINITY, -INFINITY},
      {from_bits(0x7f800001u), NAN},
      {from_bits(0x7fffffffu), NAN},
      {from_bits(0xffffffffu), NAN},
      {0.0f, 0.0f},
  };
  // One of them in each row, beside zeros; the other operand has ones.
  const auto rows = static_cast<int>(pairs.size());
  constexpr int kDepth = 4;
  std::vector<float> values(pairs.size() * kDepth, 0);
  for (std::size_t i = 0; i < pairs.size(); ++i) values[i * kDepth + 1] = pairs[i].first;
  const std::vector<float> ones(kDepth, 1);
  const auto check = [&]<bool along_k>() {
    const Laid<AsTf32, along_k> laid(values, rows, kDepth), unit(ones, 1, kDepth);
    const Array<float> as_left(pairs.size()), as_right(pairs.size());
    launch_product<MultiplyFragments<AsTf32, 64, 64>>({1, rows, 1, kDepth, 1}, laid.source(), unit.source(),
                                                      as_left.data());
    launch_product<MultiplyFragments<AsTf32, 64, 64>>({1, 1, rows, kDepth, 1}, unit.source(), laid.source(),
                                                      as_right.data());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      CAPTURE(pairs[i].first);
      for (const float got : {as_left[i], as_right[i]})
        CHECK((std::isnan(pairs[i].second) ? std::isnan(got) : got == pairs[i].second));
    }
  };
  check.operator()<true>();
  check.operator()<false>();
}

TEST_CASE("fragments: any numbers of a long product are rounded, then summed exactly, the same bits twice") {
  constexpr Index m = 66, n = 20, k = 700;
  const std::vector<float> a = any_numbers(m * k, 1), b = any_numbers(n * k, 2);
  by_tensor_cores([&](Precision precision) {
    const std::vector<float> rounded_a = rounded_to(a, precision), rounded_b = rounded_to(b, precision);
    for (const bool across : {false, true}) {
      CAPTURE(across);
      Gemm shape{m, n, k, k, 1, 1, k, n};
      if (across) shape.a_row = 1, shape.a_col = m, shape.b_row = n, shape.b_col = 1;
      const auto multiply = [&] {
        const Array<float> left(a), right(b), c(m * n);
        cuda_gemm().gemm(shape, c.data(), left.data(), right.data(), nullptr);
        return c.values();
      };
      std::vector<float> expected(m * n);
      reference().gemm(shape, expected.data(), rounded_a.data(), rounded_b.data(), nullptr);
      const std::vector<float> got = multiply();
      check_close(got, expected, 16);
      CHECK(got == multiply());
    }
  });
}

TEST_CASE("fragments: convolutions in tiles of 128 x 128, of patches along k and across") {
  const Conv2d p = shape_of(1, 16, 12, 11, 136, {3, 1, 1});
  const Data d = data_for(p);
  const Results expected = expected_of(p, d);
  const ConvShape shape = conv_shape(p);
  const auto check = [&]<class Way>() {
    using T = ElementOf<Way>;
    using Multiply = MultiplyFragments<Way, 128, 128>;
    constexpr int kWidth = kPiece<Way>, k = 9 * 16;
    const Array<T> x(elements_of<T>(d.x)), dy(elements_of<T>(d.dy));
    const Array<float> w(d.w), packed(cuda_conv2d().conv2d_packed_size(p, ConvPass::forward)), y(d.dy.size()),
        dw(d.w.size());
    cuda_conv2d().conv2d_pack(p, ConvPass::forward, packed.data(), w.data(), strides_of(p, false).data());
    launch_product<Multiply>({1, 132, 136, k, 1}, Patches<T, true, kWidth>{x.data(), shape, 16, 16},
                             Strided<T, true, kWidth, std::is_same_v<Way, AsTf32>>{
                                 reinterpret_cast<const T*>(packed.data()), k, 1, 136, 0},
                             y.data());
    check_close(y.values(), expected.y, 8);
    launch_product<Multiply>({1, 136, k, 132, 1}, Strided<T, false, kWidth>{dy.data(), 1, 136, 136, 0},
                             Patches<T, false, kWidth>{x.data(), shape, 16, 16}, dw.data());
    // (k, (r, s, c)) here, (k, c, r, s) there.
    const std::vector<float> got = dw.values();
    std::vector<float> turned(got.size());
    for (std::size_t filter = 0; filter < 136; ++filter)
      for (std::size_t tap = 0; tap < 9; ++tap)
        for (std::size_t c = 0; c < 16; ++c)
          turned[(filter * 16 + c) * 9 + tap] = got[filter * k + tap * 16 + c];
    check_close(turned, expected.dw, 8);
  };
  by_tensor_cores([&](Precision precision) {
    precision == Precision::tf32 ? check.operator()<AsTf32>() : check.operator()<AsBf16>();
  });
}

TEST_CASE("fragments: any numbers of a convolution are rounded, then summed exactly, the same bits twice") {
  for (const Conv2d& p :
       {shape_of(1, 40, 9, 10, 36, {3, 2, 1}), shape_of(1, 18, 6, 7, 12, {3, 1, 1, 1, 2})}) {
    const Data d = any_data_for(p);
    by_tensor_cores([&](Precision precision) {
      const Data rounded{rounded_to(d.x, precision), rounded_to(d.w, precision), rounded_to(d.dy, precision)};
      const Results got = run(p, d), expected = expected_of(p, rounded), again = run(p, d);
      check_close(got.y, expected.y, 16);
      check_close(got.dx, expected.dx, 16);
      check_close(got.dw, expected.dw, 16);
      CHECK(got.y == again.y);
      CHECK(got.dx == again.dx);
      CHECK(got.dw == again.dw);
    });
  }
}

TEST_CASE("fragments: pictures and results that are not aligned") {
  const Conv2d p = shape_of(1, 8, 4, 5, 12, {3, 1, 1});
  const Data d = data_for(p);
  std::vector<float> shifted = d.x, want = expected_of(p, d).y;
  shifted.insert(shifted.begin(), 99);
  want.insert(want.begin(), 77);
  const Array<float> off(shifted), w(d.w), packed(cuda_conv2d().conv2d_packed_size(p, ConvPass::forward));
  in_every_precision([&](Precision) {
    const Array<float> z(std::vector<float>(want.size(), 77));
    cuda_conv2d().conv2d_pack(p, ConvPass::forward, packed.data(), w.data(), strides_of(p, false).data());
    cuda_conv2d().conv2d_forward(p, z.data() + 1, off.data() + 1, packed.data(), {});
    check_close(z.values(), want, 8);
  });
}

TEST_CASE("fragments: large products take large tiles, small ones many blocks, and no sum is too long") {
  const auto tiling = [](int m, int n, int k, int groups = 1) {
    return fragment_tiling<AsBf16>({groups, m, n, k, 1});
  };
  const FragmentTiling large = tiling(50176, 512, 4608), narrow = tiling(200704, 64, 576),
                       small = tiling(49, 512, 4608), long_one = tiling(16384, 1024, 3 * kMostTerms),
                       nothing = tiling(5, 5, 0), grouped = tiling(100, 8, 64, 1000);
  CHECK(large.m == 128);
  CHECK(large.n == 128);
  CHECK(large.splits == 1);
  CHECK(narrow.m == 128);
  CHECK(narrow.n == 64);
  CHECK(small.m == 64);
  CHECK(small.splits > 8);
  CHECK((long_one.n == 128 && long_one.splits == 3));
  CHECK((nothing.m == 64 && nothing.splits == 1));
  CHECK(grouped.splits == 1);
}
