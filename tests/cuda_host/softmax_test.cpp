// Softmax and its logarithm on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;

namespace {

struct Sizes {
  std::int64_t rows, columns;
};

/// Rows for a warp and rows for a block.
constexpr Sizes kSizes[] = {{1, 1},   {3, 7},   {0, 5},   {5, 0},   {21, 32},
                            {9, 100}, {2, 256}, {3, 257}, {4, 1000}};

void compare(const Sizes& s, const std::vector<float>& x) {
  FloatKernels<float> cuda{};
  fill_softmax_cuda(cuda);
  const Array<float> dev_x(x), y(x.size()), log_y(x.size());
  std::vector<float> expected(x.size());
  CAPTURE(s.rows);
  CAPTURE(s.columns);
  cuda.softmax(s.rows, s.columns, y.data(), dev_x.data());
  cuda_host::reference().softmax(s.rows, s.columns, expected.data(), x.data());
  cuda_host::check_close(y.values(), expected, 2);
  cuda.log_softmax(s.rows, s.columns, log_y.data(), dev_x.data());
  cuda_host::reference().log_softmax(s.rows, s.columns, expected.data(), x.data());
  cuda_host::check_close(log_y.values(), expected, 2);
}

std::vector<float> logits(const Sizes& s, float factor) {
  std::vector<float> x = cuda_host::numbers(static_cast<std::size_t>(s.rows * s.columns));
  for (float& value : x) value *= factor;
  return x;
}

}  // namespace

TEST_CASE("softmax and log_softmax of rows, of logits that are even, far apart and very large") {
  for (const Sizes& s : kSizes)
    for (const float factor : {1.0f, 40.0f, 1e37f}) compare(s, logits(s, factor));
}

TEST_CASE("a NaN or an infinity takes its row and no other, -infinity alone gives 0") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const Sizes& s : {Sizes{8, 50}, Sizes{8, 300}})
    for (const auto at : {std::int64_t{0}, s.columns - 1}) {
      std::vector<float> x = logits(s, 1);
      const auto cell = [&](std::int64_t row, std::int64_t column) -> float& {
        return x[static_cast<std::size_t>(row * s.columns + column)];
      };
      cell(1, at) = NAN;
      cell(3, at) = kInf;
      for (std::int64_t c = 0; c < s.columns; ++c) cell(5, c) = -kInf;
      compare(s, x);
      cell(7, at) = -kInf;
      FloatKernels<float> cuda{};
      fill_softmax_cuda(cuda);
      const Array<float> dev_x(x), y(x.size());
      cuda.softmax(s.rows, s.columns, y.data(), dev_x.data());
      std::int64_t nan_rows = 0;
      for (std::int64_t row = 0; row < s.rows; ++row)
        nan_rows += std::isnan(y[static_cast<std::size_t>(row * s.columns + 2)]);
      CHECK(nan_rows == 3);
      CHECK(y[static_cast<std::size_t>(7 * s.columns + at)] == 0);
    }
}
