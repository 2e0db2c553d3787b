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

double tiled(const MicroKernel& kernel, const WinogradMaps& of, const WinogradShape& s, ConvPass pass) {
  const TileGrid grid(s, of.outputs);
  const double places = of.places(), channels = static_cast<double>(s.inputs * s.outputs);
  const double filters =
      of.filters * of.filters * channels * kFetched * (pass == ConvPass::weight_grad ? 2 : 1);
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

const WinogradMaps& winograd_maps(const Winograd& winograd, const Conv2d& shape, Tiling tiling) {
  const bool strided = shape.stride_h == 2;
  switch (tiling) {
    case Tiling::two:
      return strided ? winograd.two_strided : winograd.two;
    case Tiling::rows:
      return winograd.stem;
    case Tiling::six:
      return winograd.six;
    default:
      return strided ? winograd.four_strided : winograd.four;
  }
}

Tiling best_tiling(const MicroKernel& kernel, const Winograd& winograd, const Conv2d& shape, ConvPass pass) {
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
  for (const Tiling tiling : {Tiling::two, Tiling::four})
    consider(tiling, tiled(kernel, winograd_maps(winograd, shape, tiling), s, pass));
  if (pass != ConvPass::weight_grad && s.stride == 1) consider(Tiling::few, tiled_few(winograd.few, s));
  return best;
}

bool rows_pay(const WinogradMaps& maps, const Conv2d& shape) {
  // In steps for an output column: a tile's maps take about as long as half a dozen steps a place.
  constexpr std::int64_t kMappedBack = 6;
  const std::int64_t depth = shape.s * shape.c, tiles = ceil_div(shape.oh, maps.outputs);
  return maps.reach * tiles * (depth + kMappedBack) < kStemTaps * shape.oh * depth;
}

}  // namespace grapnel::kernels
