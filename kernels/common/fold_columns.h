// Folding the rows of a matrix into one value (or a few) per column, in double, with the same bits for any
// number of threads: the rows are cut at places that only the sizes decide, the parts are folded in parallel
// and then combined in order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {

/// `Quantities` folds at once. `identity` starts each; combine(total, part) joins two.
/// fold(row_begin, row_end, column, width, totals) folds a block of the matrix into totals (Quantities,
/// width), which it finds started; finish(column, width, totals) receives the result, in one call or in
/// several that cover the columns.
template <int Quantities, class Combine, class Fold, class Finish>
void fold_columns(std::int64_t rows, std::int64_t columns, double identity, const Combine& combine,
                  const Fold& fold, const Finish& finish) {
  constexpr std::int64_t kPart = 32 * 1024, kMaxParts = 64, kMaxColumns = 4096, kSlab = 512;
  const std::int64_t parts = std::min({rows, kMaxParts, rows * columns / kPart});
  if (parts <= 1 || columns > kMaxColumns) {
    const std::int64_t slabs = (columns + kSlab - 1) / kSlab;
    parallel_for(slabs, std::max<std::int64_t>(1, kPart / (kSlab * std::max<std::int64_t>(rows, 1))),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t slab = begin; slab < end; ++slab) {
                     const std::int64_t column = slab * kSlab, width = std::min(kSlab, columns - column);
                     double totals[Quantities * kSlab];
                     std::fill_n(totals, Quantities * width, identity);
                     fold(std::int64_t{0}, rows, column, width, totals);
                     finish(column, width, totals);
                   }
                 });
    return;
  }
  const std::int64_t width = Quantities * columns;
  static thread_local Scratch<double> scratch;
  double* totals = scratch.get(static_cast<std::size_t>(parts * width));
  std::fill_n(totals, parts * width, identity);
  parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part) {
      fold(rows * part / parts, rows * (part + 1) / parts, std::int64_t{0}, columns, totals + part * width);
    }
  });
  for (std::int64_t part = 1; part < parts; ++part) {
    for (std::int64_t i = 0; i < width; ++i) totals[i] = combine(totals[i], totals[part * width + i]);
  }
  finish(std::int64_t{0}, columns, totals);
}

}  // namespace grapnel::kernels
