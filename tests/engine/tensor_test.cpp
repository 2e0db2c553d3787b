// Tensors as values: shapes, strides, views, memory formats, conversion, in-place changes, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "grapnel/engine/eigen.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "support/device.h"

using namespace grapnel;

namespace {

Tensor count_up(const Shape& shape) {
  return reshape(Tensor::arange(numel(shape)), shape);
}
std::vector<float> values(const Tensor& x) {
  return x.to_vector<float>();
}
using Floats = std::vector<float>;

}  // namespace

TEST_CASE("making tensors") {
  CHECK_EQ(values(Tensor::full({2, 2}, 1.5)), Floats{1.5, 1.5, 1.5, 1.5});
  CHECK_EQ(Tensor::scalar(3).item(), 3.0);
  CHECK_EQ(Tensor::scalar(3).rank(), 0);
  CHECK_EQ(values(Tensor::from<float>({1, 2, 3}, {3, 1})), Floats{1, 2, 3});
  CHECK_THROWS_AS(Tensor::from<float>({1, 2, 3}, {2}), ShapeError);
  CHECK_EQ(Tensor::empty({2, 0, 3}).numel(), 0);
  CHECK_THROWS_AS(Tensor::empty({-1}), ShapeError);
  CHECK_THROWS_WITH_AS(Tensor::empty({std::int64_t{1} << 40, std::int64_t{1} << 40}),
                       doctest::Contains("overflows"), ShapeError);
  CHECK_THROWS_AS(Tensor::empty({1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
  CHECK_THROWS_AS(Tensor().shape(), Error);
  CHECK_THROWS_WITH_AS(Tensor::ones({2}).data<double>(),
                       doctest::Contains("holds float32, asked for float64"), TypeError);
  CHECK_THROWS_AS(Tensor::ones({2}).item(), ShapeError);
  CHECK_THROWS_WITH_AS(Tensor::ones({2}).size(1), doctest::Contains("dimension 1 does not exist"),
                       ShapeError);
}

TEST_CASE("memory owned elsewhere is seen, not copied, and released once") {
  int released = 0;
  std::vector<float> memory{0, 1, 2, 3, 4, 5};
  {
    const Tensor columns =
        Tensor::from_blob(memory.data(), {2, 3}, {1, 2}, DType::float32, [&] { ++released; });
    CHECK_EQ(values(columns), Floats{0, 2, 4, 1, 3, 5});
    const Tensor view = select(columns, 0, 1);
    view.fill_(9);
    CHECK_EQ(released, 0);
  }
  CHECK_EQ(released, 1);
  CHECK_EQ(memory, Floats{0, 9, 2, 9, 4, 9});
  CHECK_THROWS_WITH_AS(Tensor::view_of(Tensor::ones({4}).storage(), 2, {3}, {1}, DType::float32),
                       doctest::Contains("reaches outside its storage"), ShapeError);
}

TEST_CASE("views share memory, reshape copies only where it must") {
  const Tensor x = count_up({2, 3, 4});
  CHECK_EQ(reshape(x, {6, 4}).storage(), x.storage());
  const Tensor swapped = transpose(x, 0, 2);
  CHECK_EQ(swapped.storage(), x.storage());
  CHECK_NE(reshape(swapped, {24}).storage(), x.storage());
  CHECK_EQ(values(reshape(swapped, {12, 2})), values(swapped));
  CHECK_THROWS_WITH_AS(view(swapped, {24}), doctest::Contains("use reshape"), ShapeError);
  CHECK_EQ(view(swapped, {4, 3, 1, 2}).storage(), x.storage());
  CHECK_EQ(reshape(narrow(x, 1, 1, 2), {2, 8}).storage(), x.storage());
  CHECK_EQ(values(select(x, 1, -1)), Floats{8, 9, 10, 11, 20, 21, 22, 23});
  CHECK_EQ(unsqueeze(x, -1).shape(), Shape{2, 3, 4, 1});
  CHECK_EQ(squeeze(unsqueeze(x, 1), 1).shape(), x.shape());
  CHECK_EQ(flatten(x, 1).shape(), Shape{2, 12});
  CHECK_EQ(values(as_strided(x, {2, 2}, {4, 1}, 5)), Floats{5, 6, 9, 10});
  CHECK_EQ(reshape(Tensor::empty({0, 3}), {0, 7}).shape(), Shape{0, 7});
}

TEST_CASE("every way to split and merge dimensions agrees with the row-major order") {
  const Tensor x = count_up({2, 3, 4, 5});
  for (const Dims& order :
       {Dims{0, 1, 2, 3}, Dims{1, 0, 2, 3}, Dims{0, 2, 3, 1}, Dims{3, 2, 1, 0}, Dims{0, 1, 3, 2}}) {
    const Tensor y = permute(x, order);
    const Floats expected = values(y);
    for (const Shape& shape : {Shape{120}, Shape{6, 20}, Shape{2, 60}, Shape{24, 5}, Shape{4, 30},
                               Shape{1, 10, 1, 12}, Shape{3, 2, 2, 10}, Shape{8, 15}})
      CHECK_EQ(values(reshape(y, shape)), expected);
  }
}

TEST_CASE("channels last lies behind logical shapes and spreads") {
  const Tensor x = count_up({2, 3, 4, 5});
  const Tensor last = x.contiguous(MemoryFormat::channels_last);
  CHECK_EQ(last.strides(), Strides{60, 1, 15, 3});
  CHECK_EQ(values(last), values(x));
  CHECK_EQ((last + x).suggested_format(), MemoryFormat::channels_last);
  CHECK_EQ(relu(last).suggested_format(), MemoryFormat::channels_last);
  CHECK_EQ(values(last * x), values(x * x));
  CHECK_EQ(values(sum(last, {0, 2, 3})), values(sum(x, {0, 2, 3})));
  CHECK_EQ(values(reshape(last, {2, 60})), values(x));
  CHECK_EQ(conv2d(x, Tensor::ones({2, 3, 1, 1})).suggested_format(), MemoryFormat::channels_last);
}

TEST_CASE("element types convert as PyTorch converts them") {
  const Tensor x = Tensor::from<float>({-1.7f, 0, 0.3f, 65519, 65520, 1e-8f}, {6});
  CHECK_EQ(x.to(DType::int64).to_vector<std::int64_t>(),
           std::vector<std::int64_t>{-1, 0, 0, 65519, 65520, 0});
  CHECK_EQ(x.to(DType::boolean).to(DType::float32).to_vector<float>(), Floats{1, 0, 1, 1, 1, 1});
  const Floats half = values(x.to(DType::float16));
  CHECK_EQ(half[0], -1.7001953125f);
  CHECK_EQ(half[3], 65504.0f);
  CHECK_EQ(half[4], std::numeric_limits<float>::infinity());
  CHECK_EQ(half[5], 0.0f);
  CHECK_EQ(values(x.to(DType::bfloat16))[0], -1.703125f);
  CHECK_EQ(x.to(DType::float64).dtype(), DType::float64);
  CHECK_THROWS_WITH_AS(x.to(DType::float16) + x.to(DType::float16),
                       doctest::Contains("convert it with Tensor::to"), TypeError);
  CHECK_THROWS_WITH_AS(x + x.to(DType::float64), doctest::Contains("float32 and float64"), TypeError);
}

TEST_CASE("in-place changes through overlapping views read before they write") {
  const Tensor x = count_up({4});
  narrow(x, 0, 1, 3).copy_(narrow(x, 0, 0, 3));
  CHECK_EQ(values(x), Floats{0, 0, 1, 2});
  const Tensor y = count_up({4});
  add_(narrow(y, 0, 1, 3), narrow(y, 0, 0, 3));
  CHECK_EQ(values(y), Floats{0, 1, 3, 5});
  const Tensor z = count_up({3});
  add_(z, z);
  CHECK_EQ(values(z), Floats{0, 2, 4});
  CHECK_THROWS_WITH_AS(add_(z, Tensor::ones({2, 3})),
                       doctest::Contains("does not broadcast to the changed tensor's shape"), ShapeError);
}

TEST_CASE("wrong shapes are named with what was expected") {
  CHECK_THROWS_WITH_AS(Tensor::ones({2, 3}) + Tensor::ones({4}),
                       doctest::Contains("add: shapes (2, 3) and (4,) do not broadcast"), ShapeError);
  CHECK_THROWS_WITH_AS(matmul(Tensor::ones({2, 3}), Tensor::ones({4, 2})), doctest::Contains("inner sizes"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(linear(Tensor::ones({2, 3}), Tensor::ones({5, 4})),
                       doctest::Contains("its last size must be 4"), ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(Tensor::ones({1, 3, 4, 4}), Tensor::ones({8, 4, 3, 3})),
                       doctest::Contains("expected 4 input channels"), ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(Tensor::ones({1, 3, 2, 2}), Tensor::ones({8, 3, 3, 3})),
                       doctest::Contains("larger than the padded input"), ShapeError);
  CHECK_THROWS_WITH_AS(max_pool2d(Tensor::ones({1, 1, 40, 40}), {.kernel = {20, 20}}),
                       doctest::Contains("256"), ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm(Tensor::ones({1, 2, 1, 1}), {}, {}, {}, {}, true),
                       doctest::Contains("more than one value per channel"), ShapeError);
  CHECK_THROWS_WITH_AS(nll_loss(Tensor::ones({2, 3}), Tensor::zeros({2}, DType::int64), LossReduction::mean,
                                Tensor::ones({2})),
                       "nll_loss: expected a weight for each of 3 classes, got shape (2,)", ShapeError);
  CHECK_THROWS_WITH_AS(cross_entropy(Tensor::ones({2, 3}), Tensor::zeros({2}, DType::int64),
                                     {.weight = Tensor::ones({3}, DType::float64)}),
                       doctest::Contains("cross_entropy"), TypeError);
  CHECK_THROWS_WITH_AS(
      cross_entropy(Tensor::ones({2, 3}), Tensor::zeros({2}, DType::int64), {.label_smoothing = 1.5}),
      "cross_entropy: label_smoothing is 1.500000, expected 0 to 1", Error);
  CHECK_THROWS_WITH_AS(binary_cross_entropy_with_logits(Tensor::ones({2, 3}), Tensor::ones({3})),
                       doctest::Contains("of shape (2, 3), got shape (3,)"), ShapeError);
  CHECK_THROWS_WITH_AS(cat({Tensor::ones({2, 3}), Tensor::ones({3, 2})}),
                       doctest::Contains("does not fit the first"), ShapeError);
  CHECK_THROWS_WITH_AS(amax(Tensor::ones({0, 2}), {0}), doctest::Contains("nothing to take the maximum of"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(sum(Tensor::ones({2, 2}), {0, -2}), doctest::Contains("appears twice"), ShapeError);
}

TEST_CASE("labels and indices out of range are named" *
          testing::on_cpu_only("devices tell later: ../devices/index_test.cpp")) {
  CHECK_THROWS_WITH_AS(cross_entropy(Tensor::ones({2, 3}), Tensor::from<std::int64_t>({0, 3}, {2})),
                       doctest::Contains("label 3 is outside 0..2"), ShapeError);
  CHECK_THROWS_WITH_AS(index_select(Tensor::ones({2}), 0, Tensor::from<std::int64_t>({2}, {1})),
                       doctest::Contains("outside 0..1"), ShapeError);
}

TEST_CASE("NaN propagates") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from<float>({1, nan, -1, 2}, {1, 1, 2, 2});
  CHECK(std::isnan(values(relu(x))[1]));
  CHECK(std::isnan(values(clamp(x, 0, 1))[1]));
  CHECK(std::isnan(amax(x).item()));
  CHECK(std::isnan(max_pool2d(x, {}).item()));
  CHECK_EQ(argmax(flatten(x), 0).to_vector<std::int64_t>()[0], 1);
}

TEST_CASE("random numbers depend on the seed alone") {
  Generator a(7), b(7), c(8);
  const Floats first = values(Tensor::randn({1000}, a));
  CHECK_EQ(first, values(Tensor::randn({1000}, b)));
  CHECK_NE(first, values(Tensor::randn({1000}, c)));
  const double mean = std::accumulate(first.begin(), first.end(), 0.0) / 1000;
  CHECK(std::abs(mean) < 4 / std::sqrt(1000.0));  // four standard errors
  // Philox 4x32-10 of the all-zero counter and key, from the paper's reference implementation.
  CHECK_EQ(Generator::bits_at(0, 0), 0x6627e8d5u);
  CHECK_EQ(Generator::bits_at(0, 3), 0x9b00dbd8u);
  // Drawn one after the other or from an offset, they are the same numbers.
  Generator stream(9);
  for (std::uint64_t i = 0; i < 11; ++i) CHECK_EQ(stream.bits(), Generator::bits_at(9, i));
  stream.set_offset(5);
  CHECK_EQ(stream.bits(), Generator::bits_at(9, 5));
  stream.set_offset(3);
  CHECK_EQ(stream.bits(), Generator::bits_at(9, 3));
}

TEST_CASE("packed weights follow the weight's version") {
  const Tensor x = Tensor::ones({1, 1, 2, 2}), w = Tensor::ones({1, 1, 2, 2});
  CHECK_EQ(conv2d(x, w).item(), 4.0);
  w.fill_(2);
  CHECK_EQ(conv2d(x, w).item(), 8.0);
  select(select(w, 2, 0), 2, 0).fill_(10);
  CHECK_EQ(conv2d(x, w).item(), 16.0);
}

TEST_CASE("Eigen as an independent oracle, and as a guest" * testing::on_cpu_only("Eigen")) {
  Generator generator(3);
  const Tensor a = Tensor::randn({37, 53}, generator, DType::float64),
               b = Tensor::randn({53, 29}, generator, DType::float64);
  const EigenMatrix<double> product = as_eigen<double>(a) * as_eigen<double>(b);
  const double error = (as_eigen<double>(matmul(a, b)) - product).norm() / product.norm();
  CHECK(error < 53 * std::numeric_limits<double>::epsilon());
  const Tensor back = from_eigen(product.transpose());
  CHECK_EQ(back.shape(), Shape{29, 37});
  CHECK_EQ(as_eigen<double>(transpose(back, 0, 1)), product);
  const auto rows = as_eigen<double>(a);
  const Tensor sums = sum(a, {1});
  CHECK((as_eigen<double>(sums).transpose() - rows.rowwise().sum()).norm() < 1e-12);
  as_eigen<double>(sums).setZero();
  CHECK_EQ(sum(sums).item(), 0.0);
  CHECK_THROWS_AS(as_eigen<double>(Tensor::ones({1, 1, 1}, DType::float64)), ShapeError);
}
