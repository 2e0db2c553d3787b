// Time of a convolution as the sum of what it does, in multiply-adds of the micro-kernel.
#include "grapnel/kernels/winograd/choice.h"

#include "grapnel/kernels/winograd/tiles.h"

namespace grapnel::kernels {
namespace {

// What a float costs beside a multiply-add: mapped, or read once from memory as weights are.
constexpr double kMapped = 5, kFetched = 10;
// A step of few tiles beside one of the micro-kernel: set by 256 @ 14, where 16 tiles just lose to 2x2.
constexpr double kFew = 1.25;

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

/// Four by four, the filters mapped in registers: a row of six places takes 12 steps to map for `tiles` x 6
/// to multiply.
double tiled_few(const FewKernel& few, const WinogradShape& s) {
  const TileGrid grid(s, 4);
  const double channels = static_cast<double>(s.inputs * s.outputs);
  const double groups = static_cast<double>(ceil_div(grid.count, few.tiles));
  const double maps = 36 * groups * few.tiles * static_cast<double>(s.inputs + s.outputs) * kMapped;
  return kFew * groups * 6 * (12 + 6 * few.tiles) * channels + 9 * channels * kFetched + maps;
}

double direct(const WinogradShape& s, ConvPass pass) {
  const double channels = static_cast<double>(s.inputs * s.outputs);
  return 9 * channels *
         (static_cast<double>(s.images * s.out_h * s.out_w) +
          kFetched * (pass == ConvPass::weight_grad ? 2 : 1));
}

}  // namespace

Tiling best_tiling(const MicroKernel& kernel, const FewKernel& few, const Conv2d& shape, ConvPass pass) {
  const WinogradShape s =
      winograd_shape(shape, pass == ConvPass::input_grad ? ConvPass::input_grad : ConvPass::forward);
  if (s.inputs < kernel.lanes) return Tiling::none;
  Tiling best = Tiling::none;
  double least = direct(s, pass);
  const auto consider = [&](Tiling tiling, double cost) {
    if (cost < least) {
      least = cost;
      best = tiling;
    }
  };
  consider(Tiling::two, tiled(kernel, s, pass, 2));
  consider(Tiling::four, tiled(kernel, s, pass, 4));
  if (pass != ConvPass::weight_grad) consider(Tiling::few, tiled_few(few, s));
  return best;
}

}  // namespace grapnel::kernels
