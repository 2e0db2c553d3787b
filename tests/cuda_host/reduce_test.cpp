// Sums and maxima on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;
using Index = std::int64_t;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

struct Kept {
  Index size, out_stride, x_stride;
};
struct Reduced {
  Index size, x_stride;
};
Reduce shape_of(const std::vector<Kept>& kept, const std::vector<Reduced>& reduced) {
  Reduce shape{};
  for (const auto& [size, out_stride, x_stride] : kept) {
    shape.kept_sizes[shape.kept_rank] = size;
    shape.out_strides[shape.kept_rank] = out_stride;
    shape.x_kept_strides[shape.kept_rank++] = x_stride;
  }
  for (const auto& [size, x_stride] : reduced) {
    shape.reduced_sizes[shape.reduced_rank] = size;
    shape.x_reduced_strides[shape.reduced_rank++] = x_stride;
  }
  return shape;
}

/// Elements up to the last one that a nest reaches; negative strides would need more.
std::size_t extent(int rank, const Index* sizes, const Index* strides) {
  Index last = 0;
  for (int d = 0; d < rank; ++d) last += std::max<Index>(0, sizes[d] - 1) * strides[d];
  return static_cast<std::size_t>(last + 1);
}

/// Both tables' results, over what `out` held before: what no output owns must stay. Sums of numbers of few
/// bits are exact in double, so nothing may differ.
void compare(Reduction op, const Reduce& shape, const std::vector<float>& values) {
  FloatKernels<float> cuda{};
  fill_reduce_cuda(cuda);
  std::vector<float> expected(extent(shape.kept_rank, shape.kept_sizes, shape.out_strides), 77);
  const Array<float> x(values), out(expected);
  cuda.reduce(op, shape, out.data(), x.data());
  cuda_host::reference().reduce(op, shape, expected.data(), values.data());
  CAPTURE(static_cast<int>(op));
  CAPTURE(shape.kept_rank);
  CAPTURE(shape.kept_sizes[0]);
  CAPTURE(shape.reduced_rank);
  CAPTURE(shape.reduced_sizes[0]);
  const std::vector<float> got = out.values();
  CHECK(std::equal(got.begin(), got.end(), expected.begin(),
                   [](float a, float b) { return a == b || (a != a && b != b); }));
}

/// As many as x has: a read behind them is a fault.
std::vector<float> numbers_for(const Reduce& shape) {
  const std::size_t kept = extent(shape.kept_rank, shape.kept_sizes, shape.x_kept_strides);
  return cuda_host::numbers(kept + extent(shape.reduced_rank, shape.reduced_sizes, shape.x_reduced_strides) -
                            1);
}

const std::vector<Reduce>& shapes() {
  static const std::vector<Reduce> all = {
      // everything
      shape_of({}, {}),
      shape_of({}, {{1, 1}}),
      shape_of({}, {{255, 1}}),
      shape_of({}, {{257, 3}}),
      shape_of({}, {{20001, 1}}),
      shape_of({}, {{7, 40}, {5, 1}}),
      // nothing: copies
      shape_of({{300, 1, 1}}, {}),
      shape_of({{9, 2, 5}}, {}),
      // rows
      shape_of({{5, 1, 70}}, {{70, 1}}),
      shape_of({{300, 1, 3}}, {{3, 1}}),
      shape_of({{37, 1, 32}}, {{32, 1}}),
      shape_of({{3, 1, 9000}}, {{9000, 1}}),
      shape_of({{2, 9, 600}, {3, 2, 100}}, {{3, 20}, {7, 2}}),
      shape_of({{4, 1, 1000}}, {{2, 200}, {3, 30}, {4, 1}}),
      // columns
      shape_of({{5, 1, 1}}, {{100, 5}}),
      shape_of({{3, 1, 1}}, {{6000, 3}}),
      shape_of({{100, 1, 1}}, {{33, 100}}),
      shape_of({{33, 1, 1}}, {{300, 40}}),
      shape_of({{1, 1, 1}}, {{700, 2}}),
      shape_of({{3, 9, 9 * 35}, {9, 1, 1}}, {{35, 9}}),
      shape_of({{3, 40, 500}, {2, 20, 200}, {11, 1, 1}}, {{4, 40}, {3, 11}}),
      shape_of({{3, 12, 9000}, {2, 5, 4500}, {3, 1, 1}}, {{1500, 3}}),  // in parts
      // both dense, neither, the same element again and again
      shape_of({{6, 1, 1}}, {{5, 1}}),
      shape_of({{6, 3, 2}}, {{50, 13}}),
      shape_of({{6, 1, 0}}, {{50, 1}}),
      shape_of({{6, 1, 1}}, {{50, 0}}),
  };
  return all;
}

}  // namespace

TEST_CASE("sums and maxima: all, rows, columns, any strides") {
  for (const Reduce& shape : shapes()) {
    std::vector<float> x = numbers_for(shape);
    compare(Reduction::sum, shape, x);
    compare(Reduction::max, shape, x);
    for (float& value : x) value -= 10;
    compare(Reduction::max, shape, x);
  }
}

TEST_CASE("empty sums are 0, and no outputs are none") {
  for (const Reduce& shape :
       {shape_of({}, {{0, 1}}), shape_of({{40, 1, 1}}, {{0, 40}}), shape_of({{40, 2, 3}}, {{3, 1}, {0, 1}}),
        shape_of({{0, 1, 1}}, {{5, 1}}), shape_of({{3, 1, 1}, {0, 1, 1}}, {})})
    compare(Reduction::sum, shape, {1});
}

TEST_CASE("NaN is larger than everything, wherever it is") {
  for (const Reduce& shape : shapes()) {
    std::vector<float> x = numbers_for(shape);
    for (std::size_t i = 0; i < x.size(); i += 41) x[i] = i % 2 ? kNan : kInf;
    compare(Reduction::max, shape, x);
    std::fill(x.begin(), x.end(), -kInf);
    compare(Reduction::max, shape, x);
    x.back() = kNan;
    compare(Reduction::max, shape, x);
  }
}

TEST_CASE("small numbers are not lost in large sums") {
  for (const Reduce& shape : {shape_of({}, {{20000, 1}}), shape_of({{3, 1, 1}}, {{6000, 3}})}) {
    std::vector<float> x = numbers_for(shape);
    // Double has the bits for both; a float that holds the large ones has lost the others.
    const std::size_t half = x.size() / 2;
    for (std::size_t i = 0; i < half; ++i) {
      x[i] = i % 5 ? x[i] / 1024 : 3 << 20;
      x[i + half] = i % 5 ? x[i + half] / 1024 : -x[i];
    }
    compare(Reduction::sum, shape, x);
  }
}
