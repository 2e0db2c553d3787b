// Operands as parts of floats, which one operation leaves for the next: kernels, and the engine that keeps
// them.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "cuda_host/convolutions.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/ops/operands.h"

using namespace grapnel;
using namespace grapnel::kernels;
using namespace grapnel::cuda_host;

namespace {

float value_of(std::uint16_t part) {
  const std::uint32_t bits = static_cast<std::uint32_t>(part) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// The floats that parts stand for: all of them in fp32, what bfloat16 keeps of them in bf16.
void check_parts(const std::vector<std::uint16_t>& parts, const std::vector<float>& floats,
                 Precision precision) {
  const std::vector<float> expected = rounded_to(floats, precision);
  REQUIRE(parts.size() == floats.size() * (precision == Precision::fp32 ? 3 : 1));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < floats.size(); ++i) {
    float sum = 0;
    for (std::size_t at = i; at < parts.size(); at += floats.size()) sum += value_of(parts[at]);
    wrong += sum != expected[i];
  }
  CHECK(wrong == 0);
}

/// On Hopper, and on others.
template <class Body>
void everywhere(const Body& body) {
  in_every_precision(body);
  on_hopper(body);
}
/// Convolutions take some in fp32; in bf16 activations are kept as that (bf16_test.cpp).
template <class Body>
void where_convolutions_take_parts(const Body& body) {
  const WithHopper hopper;
  body(Precision::fp32, 3);
}

const FloatKernels<float>& gemm_table() {
  static const FloatKernels<float> table = [] {
    FloatKernels<float> result{};
    fill_gemm_cuda(result);
    return result;
  }();
  return table;
}

std::size_t results_of(const Conv2d& p) {
  return cuda_host::count({p.n, p.oh, p.ow, p.k});
}

std::vector<float> any_numbers(std::size_t count, unsigned seed) {
  std::vector<float> values = numbers(count, seed);
  for (float& value : values) value = std::sin(100 * value);
  return values;
}

}  // namespace

TEST_CASE(
    "parts: what a convolution leaves is its result, and the next one makes of it what it makes of floats") {
  const Conv2d first = shape_of(1, 32, 6, 5, 40, {3, 1, 1}), second = shape_of(1, 40, 6, 5, 32, {3, 2, 1}),
               deep = shape_of(1, 512, 1, 3, 40, {1}), stem = shape_of(1, 3, 6, 5, 40, {3, 1, 1});
  const FloatKernels<float>& table = cuda_conv2d();
  where_convolutions_take_parts([&](Precision precision, int count) {
    CHECK(table.conv2d_parts(40) == count);
    const auto convolve = [&](const Conv2d& p, const Array<float>& x, const Array<float>& y, Parts parts) {
      const Array<float> w(data_for(p).w), packed(table.conv2d_packed_size(p, ConvPass::forward));
      table.conv2d_pack(p, ConvPass::forward, packed.data(), w.data(), strides_of(p, false).data());
      table.conv2d_forward(p, y.data(), x.data(), packed.data(), {.relu = true, .parts = parts});
    };
    for (const Conv2d& p : {first, deep, stem}) {
      CAPTURE(p.c);
      const std::size_t size = results_of(p);
      const Array<float> x(any_data_for(p).x), y(size), plain(size);
      const Array<std::uint16_t> parts(size * static_cast<std::size_t>(count));
      convolve(p, x, y, {count, nullptr, parts.data()});
      convolve(p, x, plain, {});
      CHECK(y.values() == plain.values());
      check_parts(parts.values(), y.values(), precision);
      if (p.h != second.h) continue;
      const Array<float> z(results_of(second)), unset(size), by_floats(results_of(second));
      convolve(second, unset, z, {count, parts.data(), nullptr});  // which reads no float
      convolve(second, y, by_floats, {});
      CHECK(z.values() == by_floats.values());
    }
  });
}

TEST_CASE("parts: what an input gradient leaves, with strides, too") {
  const Conv2d p = shape_of(2, 40, 7, 6, 32, {3, 2, 1});
  const FloatKernels<float>& table = cuda_conv2d();
  where_convolutions_take_parts([&](Precision precision, int count) {
    const Data d = any_data_for(p);
    const Array<float> dy(d.dy), w(d.w), dx(d.x.size()),
        packed(table.conv2d_packed_size(p, ConvPass::input_grad));
    const Array<std::uint16_t> parts(d.x.size() * static_cast<std::size_t>(count));
    table.conv2d_pack(p, ConvPass::input_grad, packed.data(), w.data(), strides_of(p, false).data());
    table.conv2d_input_grad(p, dx.data(), dy.data(), packed.data(),
                            {.parts = {count, nullptr, parts.data()}});
    check_parts(parts.values(), dx.values(), precision);
  });
}

TEST_CASE("parts: who makes none") {
  const auto of_conv2d = [](Index channels) { return cuda_conv2d().conv2d_parts(channels); };
  in_every_precision([&](Precision) { CHECK(of_conv2d(64) == 0); });
  on_hopper([&](Precision precision) {
    CHECK(of_conv2d(64) == (precision == Precision::fp32 ? 3 : 0));
    CHECK(of_conv2d(24) == 0);
    CHECK(of_conv2d(36) == 0);
  });
}

TEST_CASE("parts: a linear layer leaves none") {
  Generator generator(9);
  const Tensor x = Tensor::randn({1, 32}, generator).to(Device::cuda()),
               w = Tensor::randn({64, 32}, generator).to(Device::cuda());
  const NoGrad none;
  where_convolutions_take_parts([&](Precision, int) {
    const Fusion fusion;
    Tensor y = linear(x, w);
    y = relu(y);
    y.storage()->read();
    CHECK(y.storage()->kept(kPartsKey) == nullptr);
  });
}

TEST_CASE("gemm, packed: bytes an element, by precision and rows") {
  constexpr Index n = 64;
  const auto bytes = [](Index m, Index k, Index apart) {
    const GemmPacking packing = gemm_table().gemm_packing({m, n, k, k, 1, 1, apart, n});
    CHECK((packing.bytes > 0) == (packing.name != nullptr));
    return packing.bytes;
  };
  constexpr std::size_t kElements = 64 * 64, kScales = 64 * sizeof(float);
  everywhere([&](Precision precision) {
    const bool bf16 = precision == Precision::bf16, tf32 = precision == Precision::tf32,
               hopper = device::has_hopper();
    const std::size_t few = bf16 ? 2 * kElements : tf32 ? 2 * kElements + kScales : 0;
    CHECK(bytes(1, 64, 64) == few);
    CHECK(bytes(8, 64, 64) == few);
    for (const Index m : {9, 63}) CHECK(bytes(m, 64, 64) == (bf16 ? 2 * kElements : 0));
    CHECK(bytes(64, 64, 64) == (bf16 ? 2 * kElements : !tf32 && hopper ? 6 * kElements : 0));
    CHECK(bytes(8, 68, 68) == (tf32 ? 2 * 64 * 68 + kScales : 0));
    CHECK(bytes(8, 66, 66) == 0);
    CHECK(bytes(8, 64, 72) == 0);
    for (const Index apart : {66, 68})
      CHECK((gemm_table().gemm_packing({2, n, 64, apart, 1, 1, 64, n}).name != nullptr) ==
            (bf16 || (tf32 && apart == 68)));
    CHECK(gemm_table().gemm_packing({8, 64, 64, 64, 1, 64, 1, 64}).name == nullptr);
  });
}

namespace {

/// C = A B with B packed, while B itself is not there.
std::vector<float> times_packed(Gemm shape, const std::vector<float>& left, const std::vector<float>& right) {
  const FloatKernels<float>& table = gemm_table();
  const Array<float> a(left), b(right), unset(right.size()), c(static_cast<std::size_t>(shape.m * shape.n));
  const Array<std::uint16_t> packed(table.gemm_packing(shape).bytes / sizeof(std::uint16_t));
  table.gemm_pack(shape, packed.data(), b.data());
  shape.packed_b = packed.data();
  table.gemm(shape, c.data(), a.data(), unset.data(), nullptr);
  return c.values();
}

}  // namespace

TEST_CASE("gemm, packed: a product without B itself") {
  everywhere([&](Precision precision) {
    for (const Index m : {1, 3, 70}) {
      CAPTURE(m);
      constexpr Index n = 66, k = 72;
      const Gemm shape{m, n, k, k, 1, 1, k, n};
      if (!gemm_table().gemm_packing(shape).name) continue;
      const std::vector<float> left = any_numbers(static_cast<std::size_t>(m * k), 1),
                               right = any_numbers(n * k, 2);
      // Thin products round B alone.
      const std::vector<float> rounded_left = m > 8 ? rounded_to(left, precision) : left,
                               rounded_right = rounded_to(right, precision);
      std::vector<float> expected(static_cast<std::size_t>(m * n));
      reference().gemm(shape, expected.data(), rounded_left.data(), rounded_right.data(), nullptr);
      check_close(times_packed(shape, left, right), expected, 12);
    }
  });
}

TEST_CASE("gemm, packed: halves are TF32 in columns of any size, and infinity, NaN and zeros stay") {
  constexpr Index n = 7, k = 132;
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = NAN;
  const auto at = [](Index column, Index i) { return static_cast<std::size_t>(column * k + i); };
  // Elements of a column are 1/2 to 1 of its size, so that halves round each to 11 bits.
  const float sizes[n] = {1, 0x1p-80f, 0x1p100f, 3, 0, -0x1p-70f, 0x1p127f};
  std::vector<float> b = any_numbers(n * k, 3);
  for (Index column = 0; column < n; ++column)
    for (Index i = 0; i < k; ++i) {
      float& value = b[at(column, i)];
      value = std::copysign((1 + std::abs(value)) / 2, value) * sizes[column];
    }
  std::vector<float> rounded = rounded_to(b, Precision::tf32);
  for (std::vector<float>* values : {&b, &rounded}) {
    (*values)[at(3, 5)] = kInfinity;
    (*values)[at(3, 6)] = 0x1p-20f;
  }
  in_every_precision([&](Precision precision) {
    if (precision != Precision::tf32) return;
    const Gemm shape{2, n, k, k, 1, 1, k, n};
    // Small, so that no sum of floats ends at infinity.
    std::vector<float> a = any_numbers(2 * k, 4);
    for (float& value : a) value /= 1024;
    const Array<float> left(a), right(rounded), expected(2 * n);
    gemm_table().gemm(shape, expected.data(), left.data(), right.data(), nullptr);
    CHECK(times_packed(shape, a, b) == expected.values());
    b[at(0, 9)] = kNaN;
    const std::vector<float> with_nan = times_packed(shape, a, b);
    for (std::size_t i = 0; i < with_nan.size(); ++i) CHECK(std::isnan(with_nan[i]) == (i % n == 0));
  });
}

TEST_CASE("gemm, packed: what is far below a column's largest is off by 2^-25 of that at most") {
  constexpr Index k = 256;
  std::vector<float> b = any_numbers(k, 5);
  for (Index i = 0; i < k; ++i) b[static_cast<std::size_t>(i)] *= std::ldexp(1.0f, -static_cast<int>(i / 8));
  b[0] = -1.5f;
  in_every_precision([&](Precision precision) {
    if (precision != Precision::tf32) return;
    for (Index i = 0; i < k; ++i) {
      std::vector<float> a(k);
      a[static_cast<std::size_t>(i)] = 1;
      const float element = b[static_cast<std::size_t>(i)],
                  got = times_packed({1, 1, k, k, 1, 1, k, 1}, a, b)[0];
      CHECK(std::abs(got - element) <= std::max(std::abs(element) * 0x1p-11f, 0x1p-25f));
    }
  });
}

TEST_CASE("parts: under a Fusion a convolution's result keeps them until it changes") {
  Generator generator(3);
  const Device device = Device::cuda();
  const Tensor x = Tensor::randn({1, 32, 5, 6}, generator).to(device),
               w = Tensor::randn({40, 32, 3, 3}, generator).to(device),
               v = Tensor::randn({32, 40, 3, 3}, generator).to(device);
  const Conv2dOptions options{.padding = {1, 1}};
  where_convolutions_take_parts([&](Precision, int) {
    const Tensor plain = relu(conv2d(x, w, {}, options));
    const Tensor after = conv2d(plain, v, {}, options), later = conv2d(plain + 1, v, {}, options);
    CHECK(plain.storage()->kept(kPartsKey) == nullptr);
    const Fusion fusion;
    const auto convolved = [&] {
      const Tensor y = relu(conv2d(x, w, {}, options));
      y.storage()->read();
      return y;
    };
    // Where gradients may be asked for, no more memory than floats take.
    CHECK(convolved().storage()->kept(kPartsKey) == nullptr);
    const NoGrad none;
    const Tensor bare = conv2d(x, w, {}, options);
    bare.storage()->read();
    CHECK(bare.storage()->kept(kPartsKey) == nullptr);
    const Tensor y = convolved();
    const Tensor z = conv2d(y, v, {}, options);
    REQUIRE(y.storage()->kept(kPartsKey) != nullptr);
    CHECK(z.to_vector<float>() == after.to_vector<float>());
    // Others than these would be found out.
    const auto parts = y.storage()->kept(kPartsKey);
    std::memset(parts->data(), 0, parts->bytes());
    for (const float value : conv2d(y, v, {}, options).to_vector<float>()) CHECK(value == 0);
    affine_(y, 1, 1);
    CHECK(y.storage()->kept(kPartsKey) == nullptr);
    CHECK(conv2d(y, v, {}, options).to_vector<float>() == later.to_vector<float>());
  });
}

TEST_CASE("gemm, packed: a linear layer's weights are until they change") {
  Generator generator(4);
  const Device device = Device::cuda();
  Tensor w = Tensor::randn({72, 64}, generator).to(device);
  for (const std::int64_t batch : {2, 70}) {
    CAPTURE(batch);
    const Tensor x = Tensor::randn({batch, 64}, generator).to(device);
    everywhere([&](Precision precision) {
      CAPTURE(static_cast<int>(precision));
      const std::vector<float> first = linear(x, w).to_vector<float>();
      CHECK(linear(x, w).to_vector<float>() == first);
      CHECK(linear(x, w).to_vector<float>() == first);
      affine_(w, 2, 0);
      std::vector<float> twice = first;
      for (float& value : twice) value *= 2;
      CHECK(linear(x, w).to_vector<float>() == twice);
    });
  }
}

TEST_CASE("gemm, packed: the same elements seen as rows of another length are others") {
  Generator generator(5);
  const Device device = Device::cuda();
  const Tensor w = Tensor::randn({24, 64}, generator).to(device), wide = reshape(w, {12, 128}),
               x = Tensor::randn({2, 64}, generator).to(device),
               y = Tensor::randn({2, 128}, generator).to(device);
  set_precision(Precision::tf32);
  std::vector<float> first, second;
  for (int i = 0; i < 3; ++i) {
    const std::vector<float> narrow_result = linear(x, w).to_vector<float>(),
                             wide_result = linear(y, wide).to_vector<float>();
    if (i == 0) first = narrow_result, second = wide_result;
    CHECK(narrow_result == first);
    CHECK(wide_result == second);
  }
  set_precision(Precision::fp32);
}

TEST_CASE("gemm, packed: matrices of a batch are multiplied each by its own") {
  Generator generator(6);
  const Device device = Device::cuda();
  const Tensor a = Tensor::randn({3, 2, 64}, generator).to(device),
               b = Tensor::randn({3, 16, 64}, generator).to(device);
  everywhere([&](Precision precision) {
    CAPTURE(static_cast<int>(precision));
    const Tensor all = matmul(a, transpose(b, 1, 2));
    for (std::int64_t i = 0; i < 3; ++i) {
      const Tensor one = matmul(select(a, 0, i), transpose(select(b, 0, i).clone(), 0, 1));
      // Of numbers packed or not, rounded to 8 bits or more.
      CHECK(cuda_host::distance(select(all, 0, i).clone().to_vector<float>(), one.to_vector<float>()) <
            0x1p-8);
    }
  });
}
