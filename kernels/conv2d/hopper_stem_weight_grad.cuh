// The weight gradient of a network's first convolution on Hopper, of what hopper_stem.cuh lays out: a step is
// a tile of 64 pixels of y, of which one tensor map fetches the segments' elements, which are the rows of the
// product, and another the filters of dy. Both lie across what is summed, which tensor cores take of bfloat16
// only; TF32 has two parts of it here, whose 16 bits are more than its own 11.
#pragma once

#include "grapnel/kernels/conv2d/hopper_stem.cuh"
#include "grapnel/kernels/conv2d/hopper_weight_grad.cuh"

namespace grapnel::kernels {

struct AsPair {
  using Element = device::BFloat16;
  static constexpr int kParts = 2;
};

/// x: rows are elements of segments.
template <class Way>
struct SegmentSpans {
  static_assert(kHopperDepth<Way> == kSpan);
  static constexpr device::Major kMajor = device::Major::mn;
  device::TensorMap map;
  StemShape p;

  GRAPNEL_DEVICE void load(device::Shared<ElementOf<Way>> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    for (int i = 0; i < kHopperRows; i += kSpan)  // behind the last segment nobody looks
      load_segment(to + i * kSpan, map, p, part, step, (row + i) / kSpan, full);
  }
};

/// dy: rows are filters.
template <class Way>
struct TileSpans {
  static constexpr device::Major kMajor = device::Major::mn;
  device::TensorMap map;  // (filter, column, row, picture); a part is as many more pictures
  StemShape p;
  int width;

  GRAPNEL_DEVICE void load(device::Shared<ElementOf<Way>> to, int part, int row, int step,
                           device::Shared<device::Barrier> full) const {
    const Pixel tile = pixel_of(step, p.tiles_h, p.tiles_w);
    for (int i = 0; i < width; i += kSpan)
      device::load_tile(to + i * kSpan, map,
                        std::array{row + i, tile.w * p.tile_w, tile.h * p.tile_h, part * p.n + tile.n}, full);
  }
};

/// Where the sums go: dw (K, C, R, S).
struct StoreSegments {
  float* dw;
  StemShape p;

  bool in_fours() const { return true; }
  template <int width>
  GRAPNEL_DEVICE void operator()(int, int row, int k, const device::Vector<float, width>& sums) const {
    const Tap tap = p.tap(row / kSpan, row % kSpan);
    if (tap.r < 0) return;
    GRAPNEL_UNROLL
    for (int e = 0; e < width; ++e)
      device::store(device::Global<float>(dw),
                    ((std::int64_t{k} + e) * p.c + tap.channel) * p.r * p.s + tap.r * p.s + tap.s, sums[e]);
  }
};

/// Whether a weight gradient is made so.
inline bool weight_grad_runs_as_stem(const Conv2d& p) {
  return p.k % 8 == 0 && runs_as_stem(p);
}

/// dy may already be there as an operand.
template <class Way, class T>
void weight_grad_of_stem(const Conv2d& conv, float* dw, const T* x, const T* dy,
                         const ElementOf<Way>* dy_operand) {
  constexpr const char* kName = "conv2d_weight_grad";
  constexpr std::uint64_t kElement = sizeof(ElementOf<Way>);
  const auto u = [](std::int64_t size) { return static_cast<std::uint64_t>(size); };
  const StemShape p = stem_shape<Way>(conv, kSpan);
  const LaidStem<Way> laid(kName, conv, p, x);
  const auto multiply = [&](const ElementOf<Way>* filters, std::int64_t) {
    const std::uint64_t pixel = u(conv.k) * kElement, row = u(conv.ow) * pixel;
    const device::TensorMap map = device::make_tensor_map(
        filters,
        device::TensorLayout{
            4,
            {u(conv.k), u(conv.ow), u(conv.oh), u(Way::kParts * conv.n)},
            {kElement, pixel, row, u(conv.oh) * row},
            {kSpan, static_cast<std::uint32_t>(p.tile_w), static_cast<std::uint32_t>(p.tile_h), 1}},
        device::Swizzle::bytes128);
    run_hopper_product<Way>(
        kName, {1, p.segments * kSpan, static_cast<int>(conv.k), p.n * p.tiles_h * p.tiles_w, 1},
        SegmentSpans<Way>{stem_segments<Way>(conv, p, laid.data()), p},
        [&](int width) {
          return TileSpans<Way>{map, p, width};
        },
        StoreSegments{dw, p});
  };
  if (dy_operand)
    multiply(dy_operand, conv.k);
  else
    with_operand<Way>(kName, pixels_of(conv, ConvPass::input_grad, dy), multiply);
}

}  // namespace grapnel::kernels
