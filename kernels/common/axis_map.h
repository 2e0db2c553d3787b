// Linear maps of the picture plane that act on height and width separately. Average pooling, adaptive
// pooling, interpolation and the adjoints of all three are such maps: y[oh, ow] = sum over i, j of rows(oh,
// i) * columns(ow, j) * x[i, j], channel by channel. A family only has to say which inputs an output reads
// along one axis, and with what weights; the adjoint is the transposed map, gathered rather than scattered,
// so that threads never write to the same place.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "grapnel/kernels/common/loop_nest.h"
#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {

/// A sparse matrix (outputs, inputs) along one axis. It keeps its memory when it is built anew: declared
/// `static thread_local`, it takes none after the first call.
struct AxisMap {
  struct Tap {
    std::int64_t input;
    double weight;
  };

  std::int64_t inputs = 0;
  std::vector<Tap> taps;            // of output 0, then of output 1, ...
  std::vector<std::int64_t> first;  // output o has taps [first[o], first[o + 1])

  /// Without outputs.
  void begin(std::int64_t input_count) {
    inputs = input_count;
    taps.clear();
    first.assign(1, 0);
  }
  std::int64_t outputs() const { return static_cast<std::int64_t>(first.size()) - 1; }
  /// Adds a tap to the output being built; taps on the same input add up.
  void add(std::int64_t input, double weight) { taps.push_back({input, weight}); }
  void finish_output() { first.push_back(static_cast<std::int64_t>(taps.size())); }

  void transpose_into(AxisMap& result) const {
    result.inputs = outputs();
    // While taps are put in place, first[i + 1] is where the next one of i goes; then it is where i ends.
    result.first.assign(static_cast<std::size_t>(inputs) + 2, 0);
    for (const Tap& tap : taps) ++result.first[tap.input + 2];
    for (std::int64_t i = 0; i < inputs; ++i) result.first[i + 2] += result.first[i + 1];
    result.taps.resize(taps.size());
    for (std::int64_t o = 0; o < outputs(); ++o) {
      for (std::int64_t t = first[o]; t < first[o + 1]; ++t)
        result.taps[result.first[taps[t].input + 1]++] = {o, taps[t].weight};
    }
    result.first.pop_back();
  }
};

/// Of both axes.
struct PlaneMaps {
  AxisMap rows, columns;

  void transpose_into(PlaneMaps& result) const {
    rows.transpose_into(result.rows);
    columns.transpose_into(result.columns);
  }
};

/// `size` values, a pixel's or a line's: target = sum over the taps of weight * source[input * size ...].
template <class To, class From>
void combine(const AxisMap& map, std::int64_t output, std::int64_t size, To* target, const From* source) {
  const AxisMap::Tap* taps = map.taps.data() + map.first[output];
  const AxisMap::Tap* end = map.taps.data() + map.first[output + 1];
  if (size == 1) {  // heatmaps: the loops below would cost more than the sum
    double total = 0;
    for (; taps != end; ++taps) total += taps->weight * source[taps->input];
    *target = static_cast<To>(total);
    return;
  }
  constexpr std::int64_t kBlock = 32;
  for (std::int64_t k = 0; k < size; k += kBlock) {
    const std::int64_t width = std::min(kBlock, size - k);
    double total[kBlock] = {};
    for (const AxisMap::Tap* tap = taps; tap != end; ++tap) {
      const From* values = source + tap->input * size + k;
      for (std::int64_t j = 0; j < width; ++j) total[j] += tap->weight * values[j];
    }
    for (std::int64_t j = 0; j < width; ++j) target[k + j] = static_cast<To>(total[j]);
  }
}

/// y (n, rows.outputs, columns.outputs, channels) from x (n, rows.inputs, columns.inputs, channels), both
/// dense. Sums in double. Each line of y is made in two steps: the lines of x it needs are combined into one,
/// then that one's pixels; or the other way round where x has fewer lines than y and what is between fits a
/// cache.
template <class T>
void apply_axis_maps(const PlaneMaps& maps, std::int64_t n, std::int64_t channels, T* y, const T* x) {
  const AxisMap &rows = maps.rows, &columns = maps.columns;
  const std::int64_t in_h = rows.inputs, out_h = rows.outputs(), out_w = columns.outputs();
  const std::int64_t in_line = columns.inputs * channels, out_line = out_w * channels;
  const auto tap_count = static_cast<std::int64_t>(rows.taps.size() + columns.taps.size());
  const std::int64_t work = (tap_count / std::max<std::int64_t>(out_h, 1) + 1) *
                            std::max<std::int64_t>(std::max(in_line, out_line), 1);
  const auto for_lines = [&](std::int64_t count, const auto& line) {
    parallel_for(count, kGrain / work + 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) line(i);
    });
  };
  const auto combine_columns = [&](auto* to, const auto* from) {
    for (std::int64_t w = 0; w < out_w; ++w) combine(columns, w, channels, to + w * channels, from);
  };
  constexpr std::int64_t kInCache = 64 * 1024;
  if (in_h < out_h && in_h * out_line <= kInCache) {
    static thread_local Scratch<double> scratch;
    double* wide = scratch.get(static_cast<std::size_t>(in_h * out_line));
    for (std::int64_t image = 0; image < n; ++image, x += in_h * in_line, y += out_h * out_line) {
      for_lines(in_h, [&](std::int64_t i) { combine_columns(wide + i * out_line, x + i * in_line); });
      for_lines(out_h, [&](std::int64_t i) { combine(rows, i, out_line, y + i * out_line, wide); });
    }
    return;
  }
  for_lines(n * out_h, [&](std::int64_t i) {
    static thread_local Scratch<double> scratch;
    double* combined = scratch.get(static_cast<std::size_t>(in_line));
    combine(rows, i % out_h, in_line, combined, x + i / out_h * in_h * in_line);
    combine_columns(y + i * out_line, combined);
  });
}

}  // namespace grapnel::kernels
