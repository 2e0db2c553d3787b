// Time of a convolution as the sum of what it does, in multiply-adds of the micro-kernel.
#include "grapnel/kernels/winograd/choice.h"

#include "grapnel/kernels/winograd/tiles.h"

namespace grapnel::kernels {
namespace {

// What a float costs beside a multiply-add: mapped, or read once from memory as weights are.
constexpr double kMapped = 5, kFetched = 12;

/// Rows that the micro-kernel computes for `rows` rows: a few rows cost as much as a third of a full tile.
double padded_rows(const MicroKernel& kernel, std::int64_t rows) {
  const double tiles = static_cast<double>(ceil_div(rows, kernel.max_rows));
  const double least = tiles * kernel.max_rows / 3;
  return static_cast<double>(rows) > least ? static_cast<double>(rows) : least;
}

double tiled(const MicroKernel& kernel, const WinogradShape& s, ConvPass pass, int outputs) {
  const TileGrid grid(s, outputs);
  const double places = (outputs + 2) * (outputs + 2), channels = static_cast<double>(s.inputs * s.outputs);
  const double filters = places * channels * kFetched * (pass == ConvPass::weight_grad ? 2 : 1);
  const double maps = places * static_cast<double>(grid.count * (s.inputs + s.outputs)) * kMapped;
  return places * padded_rows(kernel, grid.count) * channels + filters + maps;
}

double direct(const WinogradShape& s, ConvPass pass) {
  const double channels = static_cast<double>(s.inputs * s.outputs);
  return 9 * channels *
         (static_cast<double>(s.images * s.out_h * s.out_w) +
          kFetched * (pass == ConvPass::weight_grad ? 2 : 1));
}

}  // namespace

int best_tile(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass) {
  const WinogradShape s =
      winograd_shape(shape, pass == ConvPass::input_grad ? ConvPass::input_grad : ConvPass::forward);
  if (s.inputs < kernel.lanes) return 0;
  int best = 0;
  double least = direct(s, pass);
  for (const int outputs : {2, 4}) {
    const double cost = tiled(kernel, s, pass, outputs);
    if (cost < least) {
      least = cost;
      best = outputs;
    }
  }
  return best;
}

}  // namespace grapnel::kernels
