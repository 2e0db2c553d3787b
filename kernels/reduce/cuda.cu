// Sums and maxima over any dimensions on a GPU, folded in double. A block takes some outputs with several
// threads (lanes) each; neighbouring threads are neighbouring outputs where the kept dimensions are the dense
// ones, and lanes of one output otherwise. Long sums are cut into parts, which the same kernel folds.
#include <algorithm>
#include <bit>
#include <limits>

#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/fold.cuh"
#include "grapnel/kernels/common/parts.cuh"

namespace grapnel::kernels {
namespace {

using namespace device;

/// NaN is larger than everything.
struct Larger {
  GRAPNEL_DEVICE double operator()(double a, double b) const { return b > a || b != b ? b : a; }
};

template <class T>
GRAPNEL_DEVICE double number(T value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return float_of(value);
  else
    return value;
}

struct Shapes {
  Loops<2> kept;     // operand 0: out, 1: x
  Loops<1> reduced;  // operand 0: x
  std::int64_t outputs, length;
};

/// How threads are shared out, which depends on sizes only, and so does the order of summation.
struct Cut {
  std::int64_t blocks;
  unsigned lanes;  // a power of two
  bool by_columns;
};
Cut cut_of(std::int64_t outputs, std::int64_t length, bool by_columns) {
  const auto power_of_two = [](std::int64_t least, std::int64_t most) {
    return std::bit_ceil(static_cast<unsigned>(std::clamp<std::int64_t>(least, 1, most)));
  };
  // At least four elements a lane, and neighbouring outputs for a warp.
  const unsigned across = by_columns ? power_of_two(outputs, 32) : 1;
  const unsigned lanes = power_of_two(length / 4, kBlockThreads / across);
  return {(outputs * lanes + kBlockThreads - 1) / kBlockThreads, lanes, by_columns};
}

/// The outputs, or partial[part * outputs + o] of output o if there are several parts.
template <class T, class Combine>
GRAPNEL_KERNEL(kBlockThreads)
fold_kernel(Shapes s, Cut cut, double identity, Combine combine, Global<float> out, Global<double> partial,
            Global<const T> x) {
  after_previous();
  const unsigned across = kBlockThreads / cut.lanes;
  const unsigned column = cut.by_columns ? thread().x % across : thread().x / cut.lanes;
  const unsigned lane = cut.by_columns ? thread().x / across : thread().x % cut.lanes;
  const std::int64_t o = std::int64_t{block().x} * across + column, part = block().y, parts = grid_size().y;
  double total = identity;
  if (o < s.outputs) {
    const Global<const T> from = x + offset_in(s.kept, 1, o);
    for (std::int64_t r = part_begin(s.length, part, parts) + lane,
                      end = part_begin(s.length, part + 1, parts);
         r < end; r += cut.lanes)
      total = combine(total, number(load(from, offset_in(s.reduced, 0, r))));
  }
  const Shared<double> totals = shared_memory<double>();
  const unsigned mine = lane * across + column;
  store(totals, mine, total);
  for (unsigned distance = cut.lanes / 2; distance > 0; distance /= 2) {
    sync_block();
    if (lane >= distance) continue;
    total = combine(total, load(totals, mine + distance * across));
    store(totals, mine, total);
  }
  if (lane > 0 || o >= s.outputs) return;
  if (parts > 1)
    store(partial, part * s.outputs + o, total);
  else
    store(out, offset_in(s.kept, 0, o), static_cast<float>(total));
}

/// As though x were what the parts of s came to.
Shapes shapes_of_parts(Shapes s, std::int64_t parts) {
  std::int64_t stride = 1;
  for (int d = s.kept.rank - 1; d >= 0; --d) {
    s.kept.strides[1][d] = stride;
    stride *= s.kept.sizes[d];
  }
  s.reduced = {1, {parts}, {{s.outputs}}};
  s.length = parts;
  return s;
}

template <class Combine, class T>
void fold(const Shapes& s, bool by_columns, double identity, float* out, const T* x) {
  const auto run = [&](const Shapes& shapes, const Cut& cut, std::int64_t parts, double* partial,
                       auto* from) {
    launch("reduce", {static_cast<unsigned>(cut.blocks), static_cast<unsigned>(parts)}, {kBlockThreads},
           kBlockThreads * sizeof(double), fold_kernel<std::remove_cvref_t<decltype(*from)>, Combine>, shapes,
           cut, identity, Combine{}, out, partial, from);
  };
  const Cut cut = cut_of(s.outputs, s.length, by_columns);
  // Enough blocks for a large GPU, but at least 16 elements a lane.
  const std::int64_t parts =
      std::clamp<std::int64_t>(s.length / (16 * cut.lanes), 1, std::max<std::int64_t>(1, 1024 / cut.blocks));
  if (parts == 1) return run(s, cut, 1, nullptr, x);
  const Workspace workspace(static_cast<std::size_t>(parts * s.outputs) * sizeof(double));
  auto* partial = workspace.of<double>();
  run(s, cut, parts, partial, x);
  run(shapes_of_parts(s, parts), cut_of(s.outputs, parts, true), 1, nullptr, partial);
}

/// A nest of at least one dimension; returns how many elements it has.
template <int Operands>
std::int64_t complete(Loops<Operands>& loops) {
  if (loops.rank == 0) {
    loops.rank = 1;
    loops.sizes[0] = 1;
  }
  std::int64_t count = 1;
  for (int d = 0; d < loops.rank; ++d) count *= loops.sizes[d];
  return count;
}

template <class T>
void reduce(Reduction op, const Reduce& s, float* out, const T* x) {
  Shapes shapes{};
  shapes.kept.rank = s.kept_rank;
  for (int d = 0; d < s.kept_rank; ++d) {
    shapes.kept.sizes[d] = s.kept_sizes[d];
    shapes.kept.strides[0][d] = s.out_strides[d];
    shapes.kept.strides[1][d] = s.x_kept_strides[d];
  }
  shapes.reduced.rank = s.reduced_rank;
  for (int d = 0; d < s.reduced_rank; ++d) {
    shapes.reduced.sizes[d] = s.reduced_sizes[d];
    shapes.reduced.strides[0][d] = s.x_reduced_strides[d];
  }
  shapes.outputs = complete(shapes.kept);
  shapes.length = complete(shapes.reduced);
  if (shapes.outputs == 0) return;
  const bool dense_outputs = shapes.kept.strides[1][shapes.kept.rank - 1] == 1;
  const bool dense_runs = shapes.reduced.strides[0][shapes.reduced.rank - 1] == 1;
  if (op == Reduction::sum)
    fold<Add>(shapes, dense_outputs && !dense_runs, 0, out, x);
  else
    fold<Larger>(shapes, dense_outputs && !dense_runs, -std::numeric_limits<double>::infinity(), out, x);
}

}  // namespace

void fill_reduce_cuda(FloatKernels<float>& table) {
  table.reduce = reduce<float>;
}

void fill_reduce_bf16_cuda(Table& table) {
  table.bf16.reduce = reduce<BFloat16>;
}

}  // namespace grapnel::kernels
