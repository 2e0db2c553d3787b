// Cutting a matrix of equal work items over threads.
#pragma once

#include <cstdint>

#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {

struct Range {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};

/// Part `index` of `count` nearly equal, contiguous parts of [0, size).
inline Range part_of(std::int64_t size, std::int64_t index, std::int64_t count) {
  return {size * index / count, size * (index + 1) / count};
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Work items (row, column), each costing 1, plus row_cost (column_cost) for every row (column) a thread
/// touches: what must be copied or brought in from memory for it.
struct Work {
  std::int64_t rows, columns;
  double row_cost, column_cost;
};

/// Calls body(rows, columns) on the parts of the cheapest grid with at most one part a thread.
template <class Body>
void parallel_grid(const Work& work, const Body& body) {
  if (work.rows <= 0 || work.columns <= 0) return;
  std::int64_t best_rows = 1, best_columns = 1;
  double best = 0;
  for (std::int64_t columns = 1; columns <= num_threads() && columns <= work.columns; ++columns) {
    const std::int64_t share = num_threads() / columns;
    const std::int64_t rows = share < work.rows ? share : work.rows;
    const double r = static_cast<double>(ceil_div(work.rows, rows));
    const double c = static_cast<double>(ceil_div(work.columns, columns));
    const double cost = r * c + r * work.row_cost + c * work.column_cost;
    if (columns == 1 || cost < best) {
      best = cost;
      best_rows = rows;
      best_columns = columns;
    }
  }
  parallel_for(best_rows * best_columns, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      body(part_of(work.rows, p / best_columns, best_rows),
           part_of(work.columns, p % best_columns, best_columns));
    }
  });
}

}  // namespace grapnel::kernels
