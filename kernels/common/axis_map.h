// Linear maps of the picture plane that act on height and width separately. Average pooling, adaptive
// pooling, interpolation and the adjoints of all three are such maps: y[oh, ow] = sum over i, j of rows(oh,
// i) * columns(ow, j) * x[i, j], channel by channel. A family only has to say which inputs an output reads
// along one axis, and with what weights; the adjoint is the transposed map, gathered rather than scattered,
// so that threads never write to the same place.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {

/// A sparse matrix (outputs, inputs) along one axis.
struct AxisMap {
  struct Tap {
    std::int64_t input;
    double weight;
  };

  std::int64_t inputs;
  std::vector<Tap> taps;            // of output 0, then of output 1, ...
  std::vector<std::int64_t> first;  // output o has taps [first[o], first[o + 1])

  explicit AxisMap(std::int64_t input_count) : inputs(input_count), first{0} {}
  std::int64_t outputs() const { return static_cast<std::int64_t>(first.size()) - 1; }
  /// Adds a tap to the output being built; taps on the same input add up.
  void add(std::int64_t input, double weight) { taps.push_back({input, weight}); }
  void finish_output() { first.push_back(static_cast<std::int64_t>(taps.size())); }

  AxisMap transposed() const {
    AxisMap result(outputs());
    result.first.assign(static_cast<std::size_t>(inputs) + 1, 0);
    for (const Tap& tap : taps) ++result.first[tap.input + 1];
    for (std::int64_t i = 0; i < inputs; ++i) result.first[i + 1] += result.first[i];
    result.taps.resize(taps.size());
    std::vector<std::int64_t> next(result.first.begin(), result.first.end() - 1);
    for (std::int64_t o = 0; o < outputs(); ++o) {
      for (std::int64_t t = first[o]; t < first[o + 1]; ++t)
        result.taps[next[taps[t].input]++] = {o, taps[t].weight};
    }
    return result;
  }
};

/// y (n, rows.outputs, columns.outputs, channels) from x (n, rows.inputs, columns.inputs, channels), both
/// dense. Sums in double.
template <class T>
void apply_axis_maps(const AxisMap& rows, const AxisMap& columns, std::int64_t n, std::int64_t channels, T* y,
                     const T* x) {
  constexpr std::int64_t kBlock = 32, kGrain = 8 * 1024;
  const std::int64_t out_h = rows.outputs(), out_w = columns.outputs();
  if (n * out_h * out_w * channels == 0) return;
  const double taps_per_pixel = static_cast<double>(rows.taps.size()) *
                                static_cast<double>(columns.taps.size()) / static_cast<double>(out_h * out_w);
  const auto work_per_pixel = static_cast<std::int64_t>(taps_per_pixel * static_cast<double>(channels)) + 1;
  parallel_for(n * out_h * out_w, kGrain / work_per_pixel + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t pixel = begin; pixel < end; ++pixel) {
      const std::int64_t ow = pixel % out_w, oh = pixel / out_w % out_h, image = pixel / out_w / out_h;
      for (std::int64_t c0 = 0; c0 < channels; c0 += kBlock) {
        const std::int64_t width = std::min(kBlock, channels - c0);
        double total[kBlock] = {};
        for (std::int64_t i = rows.first[oh]; i < rows.first[oh + 1]; ++i) {
          const T* line = x + (image * rows.inputs + rows.taps[i].input) * columns.inputs * channels + c0;
          for (std::int64_t j = columns.first[ow]; j < columns.first[ow + 1]; ++j) {
            const double weight = rows.taps[i].weight * columns.taps[j].weight;
            const T* source = line + columns.taps[j].input * channels;
            for (std::int64_t c = 0; c < width; ++c) total[c] += weight * source[c];
          }
        }
        for (std::int64_t c = 0; c < width; ++c) y[pixel * channels + c0 + c] = static_cast<T>(total[c]);
      }
    }
  });
}

}  // namespace grapnel::kernels
