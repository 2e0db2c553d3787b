// Brings a reduction into one of two shapes and cuts it at places that only the sizes decide (see README.md):
// - by columns: x is dense along a kept dimension, so whole rows are folded into a row of totals;
// - by runs: otherwise; each output folds its own elements, long ones in parts.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "grapnel/kernels/common/fold_columns.h"
#include "grapnel/kernels/common/loop_nest.h"
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/reduce/reduce.h"
#include "grapnel/kernels/reduce/reference.h"

namespace grapnel::kernels {
namespace {

/// A reduction whose longest dense stretch of x is the last dimension of one of the two nests.
struct Plan {
  Loops<2> kept;     // operand 0: out, 1: x
  Loops<1> reduced;  // operand 0: x
};

/// Orders a nest by descending stride of its last operand (broadcast dimensions outermost) and merges what is
/// contiguous in all.
template <int Operands>
void normalise(Loops<Operands>& loops) {
  constexpr int x = Operands - 1;
  int order[kMaxRank];
  int rank = 0;
  for (int d = 0; d < loops.rank; ++d) {
    if (loops.sizes[d] != 1) order[rank++] = d;
  }
  const auto weight = [&](int d) {
    const std::int64_t stride = loops.strides[x][d];
    return stride == 0 ? std::numeric_limits<std::int64_t>::max() : stride;
  };
  // Insertion sort: stable, and std::stable_sort would allocate.
  for (int i = 1; i < rank; ++i) {
    for (int j = i; j > 0 && weight(order[j - 1]) < weight(order[j]); --j) std::swap(order[j - 1], order[j]);
  }

  Loops<Operands> merged{};
  for (int i = 0; i < rank; ++i) {
    const int d = order[i], previous = merged.rank - 1;
    bool joins = previous >= 0;
    for (int k = 0; joins && k < Operands; ++k) {
      joins = merged.strides[k][previous] == loops.sizes[d] * loops.strides[k][d];
    }
    const int at = joins ? previous : merged.rank++;
    merged.sizes[at] = joins ? merged.sizes[at] * loops.sizes[d] : loops.sizes[d];
    for (int k = 0; k < Operands; ++k) merged.strides[k][at] = loops.strides[k][d];
  }
  if (merged.rank == 0) {
    merged.rank = 1;
    merged.sizes[0] = 1;
  }
  loops = merged;
}

Plan make_plan(const Reduce& shape) {
  Plan plan{};
  plan.kept.rank = shape.kept_rank;
  std::copy_n(shape.kept_sizes, shape.kept_rank, plan.kept.sizes);
  std::copy_n(shape.out_strides, shape.kept_rank, plan.kept.strides[0]);
  std::copy_n(shape.x_kept_strides, shape.kept_rank, plan.kept.strides[1]);
  plan.reduced.rank = shape.reduced_rank;
  std::copy_n(shape.reduced_sizes, shape.reduced_rank, plan.reduced.sizes);
  std::copy_n(shape.x_reduced_strides, shape.reduced_rank, plan.reduced.strides[0]);
  normalise(plan.kept);
  normalise(plan.reduced);
  return plan;
}

struct Fold {
  const ReduceLoops& loops;
  double identity;
  double (*combine)(double total, double part);
};

Fold fold_of(Reduction op, const ReduceRows& kernel) {
  if (op == Reduction::sum) return {kernel.sum, 0, [](double total, double part) { return total + part; }};
  return {kernel.max, -std::numeric_limits<double>::infinity(),
          [](double total, double part) { return part > total || part != part ? part : total; }};
}

void reduce_by_columns(const Fold& fold, const Plan& plan, float* out, const float* x) {
  Loops<2> outer = plan.kept;
  const int last = outer.rank - 1;
  const std::int64_t columns = outer.sizes[last], out_step = outer.strides[0][last];
  outer.sizes[last] = 1;
  const std::int64_t rows = element_count(plan.reduced);
  const std::int64_t work = std::max<std::int64_t>(1, rows * columns);
  parallel_for(element_count(outer), std::max<std::int64_t>(1, kGrain / work),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   float* target = out + offset_of(outer, 0, i);
                   const float* source = x + offset_of(outer, 1, i);
                   fold_columns<1>(
                       rows, columns, fold.identity, fold.combine,
                       [&](std::int64_t row_begin, std::int64_t row_end, std::int64_t column,
                           std::int64_t width, double* totals) {
                         walk(plan.reduced, row_begin, row_end,
                              [&](const Plane<1>& plane, const std::int64_t* offsets) {
                                for (std::int64_t r = 0; r < plane.rows; ++r) {
                                  fold.loops.columns(plane.columns,
                                                     source + offsets[0] + r * plane.row_stride[0] + column,
                                                     plane.column_stride[0], width, totals);
                                }
                              });
                       },
                       [&](std::int64_t column, std::int64_t width, const double* totals) {
                         for (std::int64_t c = 0; c < width; ++c)
                           target[(column + c) * out_step] = static_cast<float>(totals[c]);
                       });
                 }
               });
}

void reduce_by_runs(const Fold& fold, const Plan& plan, float* out, const float* x) {
  constexpr std::int64_t kMaxParts = 64;
  const std::int64_t outputs = element_count(plan.kept), length = element_count(plan.reduced);
  // Many outputs keep the threads busy as they are.
  const std::int64_t parts =
      outputs >= kMaxParts ? 1 : std::clamp<std::int64_t>(length / kGrain, 1, kMaxParts);
  static thread_local Scratch<double> scratch;
  double* totals = parts > 1 ? scratch.get(static_cast<std::size_t>(outputs * parts)) : nullptr;
  const auto fold_part = [&](std::int64_t output, std::int64_t part) {
    const float* source = x + offset_of(plan.kept, 1, output);
    double total = fold.identity;
    walk(plan.reduced, length * part / parts, length * (part + 1) / parts,
         [&](const Plane<1>& plane, const std::int64_t* offsets) {
           for (std::int64_t r = 0; r < plane.rows; ++r) {
             total = fold.loops.run(plane.columns, source + offsets[0] + r * plane.row_stride[0],
                                    plane.column_stride[0], total);
           }
         });
    return total;
  };
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain * parts / std::max<std::int64_t>(length, 1));
  parallel_for(outputs * parts, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double total = fold_part(i / parts, i % parts);
      if (parts > 1) {
        totals[i] = total;
      } else {
        out[offset_of(plan.kept, 0, i)] = static_cast<float>(total);
      }
    }
  });
  for (std::int64_t output = 0; parts > 1 && output < outputs; ++output) {
    double total = fold.identity;
    for (std::int64_t part = 0; part < parts; ++part)
      total = fold.combine(total, totals[output * parts + part]);
    out[offset_of(plan.kept, 0, output)] = static_cast<float>(total);
  }
}

template <const ReduceRows& kernel>
void reduce(Reduction op, const Reduce& shape, float* out, const float* x) {
  const Plan plan = make_plan(shape);
  const Fold fold = fold_of(op, kernel);
  if (element_count(plan.kept) == 0) return;
  const bool dense_outputs = plan.kept.strides[1][plan.kept.rank - 1] == 1;
  const bool dense_runs = plan.reduced.strides[0][plan.reduced.rank - 1] == 1;
  if (dense_outputs && !dense_runs) {
    reduce_by_columns(fold, plan, out, x);
  } else {
    reduce_by_runs(fold, plan, out, x);
  }
}

}  // namespace

void fill_reduce(FloatKernels<float>& table, Isa isa) {
  switch (isa) {
    case Isa::reference:
      table.reduce = reference::reduce<float>;
      return;
    case Isa::portable:
      table.reduce = reduce<reduce_portable>;
      return;
    case Isa::avx2:
      table.reduce = reduce<reduce_avx2>;
      return;
    case Isa::avx512:
      table.reduce = reduce<reduce_avx512>;
      return;
  }
}

void fill_reduce(FloatKernels<double>& table, Isa) {
  table.reduce = reference::reduce<double>;
}

}  // namespace grapnel::kernels
