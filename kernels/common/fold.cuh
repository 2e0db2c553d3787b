// Sums and maxima over many elements: cut into parts by sizes alone, each part folded by a block, and the
// parts in their order by a second kernel. No order depends on timing.
#pragma once

#include <algorithm>

#include "grapnel/kernels/common/grid.cuh"

namespace grapnel::kernels {

inline constexpr int kFoldColumns = 32, kFoldLanes = kBlockThreads / kFoldColumns;

struct Add {
  GRAPNEL_DEVICE double operator()(double a, double b) const { return a + b; }
};

/// Part `index` of `parts` of [0, count): its first element.
GRAPNEL_DEVICE std::int64_t part_begin(std::int64_t count, std::int64_t index, std::int64_t parts) {
  return count * index / parts;
}

/// partial[(part * values + v) * columns + c] = combine(...) of what visit(r, c, totals) folds into
/// totals[v], over the part's rows r. Neighbouring threads take neighbouring columns.
template <int values, class Combine, class Visit>
GRAPNEL_KERNEL(kBlockThreads)
fold_columns_kernel(std::int64_t rows, std::int64_t columns, double identity, Combine combine, Visit visit,
                    device::Global<double> partial) {
  using namespace device;
  after_previous();
  const std::int64_t c = std::int64_t{block().x} * kFoldColumns + thread().x % kFoldColumns;
  const std::int64_t part = block().y, parts = grid_size().y;
  double totals[values];
  for (int v = 0; v < values; ++v) totals[v] = identity;
  if (c < columns)
    for (std::int64_t r = part_begin(rows, part, parts) + thread().x / kFoldColumns,
                      end = part_begin(rows, part + 1, parts);
         r < end; r += kFoldLanes)
      visit(r, c, totals);
  const Shared<double> lanes = shared_memory<double>();
  for (int v = 0; v < values; ++v) store(lanes, v * kBlockThreads + thread().x, totals[v]);
  sync_block();
  if (thread().x >= kFoldColumns || c >= columns) return;
  for (int v = 0; v < values; ++v) {
    double total = totals[v];
    for (int lane = 1; lane < kFoldLanes; ++lane)
      total = combine(total, load(lanes, v * kBlockThreads + lane * kFoldColumns + thread().x));
    store(partial, (part * values + v) * columns + c, total);
  }
}

/// finish(c, totals) for the parts' totals of each column.
template <int values, class Combine, class Finish>
GRAPNEL_KERNEL(kBlockThreads)
fold_parts_kernel(std::int64_t parts, std::int64_t columns, Combine combine, Finish finish,
                  device::Global<const double> partial) {
  device::after_previous();
  const std::int64_t c = element();
  if (c >= columns) return;
  double totals[values];
  for (int v = 0; v < values; ++v) {
    totals[v] = device::load(partial, v * columns + c);
    for (std::int64_t part = 1; part < parts; ++part)
      totals[v] = combine(totals[v], device::load(partial, (part * values + v) * columns + c));
  }
  finish(c, totals);
}

/// finish(c, totals) with all that visit(r, c, totals) folded for column c over all rows r.
template <int values, class Combine, class Visit, class Finish>
void fold_columns_of(const char* name, std::int64_t rows, std::int64_t columns, double identity,
                     const Combine& combine, const Visit& visit, const Finish& finish) {
  if (columns <= 0) return;
  const std::int64_t across = (columns + kFoldColumns - 1) / kFoldColumns;
  // Enough blocks for a large GPU, but at least 16 rows a lane.
  const std::int64_t parts =
      std::clamp<std::int64_t>(rows / (16 * kFoldLanes), 1, std::max<std::int64_t>(1, 512 / across));
  const device::Workspace workspace(static_cast<std::size_t>(parts * values * columns) * sizeof(double));
  auto* partial = workspace.of<double>();
  device::launch(name, {static_cast<unsigned>(across), static_cast<unsigned>(parts)}, {kBlockThreads},
                 values * kBlockThreads * sizeof(double), fold_columns_kernel<values, Combine, Visit>, rows,
                 columns, identity, combine, visit, partial);
  launch_each(name, columns, fold_parts_kernel<values, Combine, Finish>, parts, columns, combine, finish,
              partial);
}

}  // namespace grapnel::kernels
