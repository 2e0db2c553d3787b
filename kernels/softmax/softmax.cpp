// Each row on its own: y = exp(x - m) / s and y = (x - m) - log(s), with m = max x and s = sum exp(x - m) in
// double. A NaN makes its row NaN, and so does a row of nothing but -infinity (as in PyTorch).
#include "grapnel/kernels/softmax/softmax.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "grapnel/kernels/common/loop_nest.h"

namespace grapnel::kernels {
namespace {

/// Calls body(y, x) for every row.
template <class T, class Body>
void for_each_row(std::int64_t rows, std::int64_t columns, T* y, const T* x, const Body& body) {
  constexpr std::int64_t kCostOfExp = 8;
  if (columns == 0) return;
  parallel_for(rows, std::max<std::int64_t>(1, kGrain / (kCostOfExp * columns)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t row = begin; row < end; ++row) body(y + row * columns, x + row * columns);
               });
}

template <class T>
void softmax(std::int64_t rows, std::int64_t columns, T* out, const T* in) {
  for_each_row(rows, columns, out, in, [columns](T* y, const T* x) {
    const T largest = *std::max_element(x, x + columns);
    double sum = 0;
    for (std::int64_t c = 0; c < columns; ++c) sum += y[c] = std::exp(x[c] - largest);
    const T scale = static_cast<T>(1 / sum);
    for (std::int64_t c = 0; c < columns; ++c) y[c] *= scale;
  });
}

template <class T>
void log_softmax(std::int64_t rows, std::int64_t columns, T* out, const T* in) {
  for_each_row(rows, columns, out, in, [columns](T* y, const T* x) {
    const T largest = *std::max_element(x, x + columns);
    double sum = 0;
    for (std::int64_t c = 0; c < columns; ++c) sum += std::exp(x[c] - largest);
    const T log_sum = static_cast<T>(std::log(sum));
    for (std::int64_t c = 0; c < columns; ++c) y[c] = (x[c] - largest) - log_sum;
  });
}

template <class T>
void fill(FloatKernels<T>& table) {
  table.softmax = softmax<T>;
  table.log_softmax = log_softmax<T>;
}

}  // namespace

void fill_softmax(FloatKernels<float>& table, Isa) {
  fill(table);
}
void fill_softmax(FloatKernels<double>& table, Isa) {
  fill(table);
}

}  // namespace grapnel::kernels
