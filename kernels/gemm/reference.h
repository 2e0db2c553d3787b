// The matrix product as its definition says, summed in double: what every other variant is tested against.
#pragma once

#include "grapnel/kernels/kernels.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {

template <class T>
void reference_gemm(const Gemm& shape, T* c, const T* a, const T* b, const T* bias) {
  parallel_for(shape.m * shape.n, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t i = at / shape.n, j = at % shape.n;
      double sum = bias ? static_cast<double>(bias[j]) : 0.0;
      for (std::int64_t k = 0; k < shape.k; ++k) {
        sum += static_cast<double>(a[i * shape.a_row + k * shape.a_col]) *
               static_cast<double>(b[k * shape.b_row + j * shape.b_col]);
      }
      c[i * shape.c_row + j] = static_cast<T>(shape.relu && sum < 0 ? 0 : sum);
    }
  });
}

}  // namespace grapnel::kernels
