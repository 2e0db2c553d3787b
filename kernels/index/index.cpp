// The accumulating kernels share (outer, inner) between threads, never j: each target then sums its terms in
// order of j.
#include "grapnel/kernels/index/index.h"

#include <algorithm>
#include <cstdint>

#include "grapnel/kernels/common/loop_nest.h"

namespace grapnel::kernels {
namespace {

/// Calls body(i, inner_begin, inner_end) on pieces that cover (outer, inner); `work` is the number of steps
/// per element.
template <class Body>
void over_outer_and_inner(std::int64_t outer, std::int64_t inner, std::int64_t work, const Body& body) {
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(work, 1));
  parallel_for(outer * inner, grain, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t i = begin / inner, first = begin % inner,
                         last = std::min(inner, first + end - begin);
      body(i, first, last);
      begin += last - first;
    }
  });
}

template <class T>
void index_select(std::int64_t outer, std::int64_t size, std::int64_t count, std::int64_t inner, T* y,
                  const T* x, const std::int64_t* index) {
  over_outer_and_inner(outer, inner, count, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
    for (std::int64_t j = 0; j < count; ++j) {
      const T* source = x + (i * size + index[j]) * inner;
      std::copy(source + first, source + last, y + (i * count + j) * inner + first);
    }
  });
}

template <class T>
void index_add(std::int64_t outer, std::int64_t size, std::int64_t count, std::int64_t inner, T* x,
               const T* y, const std::int64_t* index) {
  over_outer_and_inner(outer, inner, count, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
    for (std::int64_t j = 0; j < count; ++j) {
      T* target = x + (i * size + index[j]) * inner;
      const T* source = y + (i * count + j) * inner;
      for (std::int64_t l = first; l < last; ++l) target[l] += source[l];
    }
  });
}

template <class T>
void gather(std::int64_t outer, std::int64_t size, std::int64_t count, std::int64_t inner, T* y, const T* x,
            const std::int64_t* index) {
  over_outer_and_inner(outer, inner, count, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
    for (std::int64_t j = 0; j < count; ++j) {
      const std::int64_t row = (i * count + j) * inner;
      for (std::int64_t l = first; l < last; ++l) y[row + l] = x[(i * size + index[row + l]) * inner + l];
    }
  });
}

template <class T>
void scatter_add(std::int64_t outer, std::int64_t size, std::int64_t count, std::int64_t inner, T* x,
                 const T* y, const std::int64_t* index) {
  over_outer_and_inner(outer, inner, count, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
    for (std::int64_t j = 0; j < count; ++j) {
      const std::int64_t row = (i * count + j) * inner;
      for (std::int64_t l = first; l < last; ++l) x[(i * size + index[row + l]) * inner + l] += y[row + l];
    }
  });
}

template <class T>
void argmax(std::int64_t outer, std::int64_t size, std::int64_t inner, std::int64_t* index, const T* x) {
  over_outer_and_inner(outer, inner, size, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
    for (std::int64_t l = first; l < last; ++l) {
      const T* values = x + i * size * inner + l;
      std::int64_t best = 0;
      for (std::int64_t j = 1; j < size; ++j) {
        const T value = values[j * inner], leader = values[best * inner];
        if (value > leader || (value != value && leader == leader)) best = j;
      }
      index[i * inner + l] = best;
    }
  });
}

template <class T>
void fill(FloatKernels<T>& table) {
  table.index_select = index_select<T>;
  table.index_add = index_add<T>;
  table.gather = gather<T>;
  table.scatter_add = scatter_add<T>;
  table.argmax = argmax<T>;
}

}  // namespace

void fill_index(FloatKernels<float>& table, Isa) {
  fill(table);
}
void fill_index(FloatKernels<double>& table, Isa) {
  fill(table);
}

}  // namespace grapnel::kernels
