// What all of a GPU's convolutions by products share: a pass as forward convolutions, weights in the order of
// such a product, and where its sums go.
#pragma once

#include <numeric>
#include <vector>

#include "grapnel/kernels/conv2d/conv_shape.cuh"
#include "grapnel/kernels/gemm/operands.cuh"

namespace grapnel::kernels {

/// A forward convolution of x or dy that makes a pass, or for a gradient with strides one phase of it: the
/// pixels of dx that lie a stride apart, which are reached by a subset of the taps. Of the filters it takes
/// every `every`-th tap from `first` on (rows, columns); its pixels are those of the result at (0, 0) +
/// place, and so on by `apart`. Its padding may be negative, and it may have no taps.
struct Phase {
  Conv2d conv;
  std::array<std::int64_t, 2> first, every, place, apart;
  std::int64_t lines;  // of packed weights before its own
};

/// One axis of a phase of the input's gradient.
struct PhaseAxis {
  std::int64_t taps, pad, dil, out, first, every;
};
inline PhaseAxis phase_axis(std::int64_t in, std::int64_t kernel, std::int64_t stride, std::int64_t pad,
                            std::int64_t dil, std::int64_t place) {
  const std::int64_t common = std::gcd(stride, dil);
  PhaseAxis axis{
      0, 0, dil / common, place < in ? (in - place + stride - 1) / stride : 0, 0, -stride / common};
  // Position place + o * stride receives dy[o + distance / stride] by tap r: the higher r, the lower.
  for (std::int64_t r = 0; r < kernel; ++r) {
    const std::int64_t distance = place + pad - r * dil;
    if (distance % stride != 0) continue;
    ++axis.taps;
    axis.first = r;
    axis.pad = -distance / stride;
  }
  return axis;
}

inline std::vector<Phase> phases_of(const Conv2d& p, ConvPass pass) {
  if (pass == ConvPass::forward) return {{p, {0, 0}, {1, 1}, {0, 0}, {1, 1}, 0}};
  std::vector<Phase> phases;
  std::int64_t lines = 0;
  for (std::int64_t i = 0; i < p.stride_h; ++i)
    for (std::int64_t j = 0; j < p.stride_w; ++j) {
      const PhaseAxis h = phase_axis(p.h, p.r, p.stride_h, p.pad_h, p.dil_h, i),
                      w = phase_axis(p.w, p.s, p.stride_w, p.pad_w, p.dil_w, j);
      phases.push_back({{p.n, p.k, p.oh, p.ow, p.c, h.taps, w.taps, h.out, w.out, 1, 1, h.pad, w.pad, h.dil,
                         w.dil, p.groups},
                        {h.first, w.first},
                        {h.every, w.every},
                        {i, j},
                        {p.stride_h, p.stride_w},
                        lines});
      lines += p.c * h.taps * w.taps;
    }
  return phases;
}

/// What the two passes read, a group's channels of a pixel to a row.
template <class T>
MatrixOf<T> pixels_of(const Conv2d& p, ConvPass pass, const T* from) {
  const bool forward = pass == ConvPass::forward;
  const std::int64_t pixels = p.n * (forward ? p.h * p.w : p.oh * p.ow),
                     channels = (forward ? p.c : p.k) / p.groups;
  return {from, pixels * p.groups, channels, channels, 1};
}

/// packed [out][(r, s)][in, with zeros up to whole pieces], and so each part, `apart` elements behind the one
/// before, from weights that lie at w and by those strides, which may be negative. Input channels are those
/// of a group, of `of_group` output channels.
template <class Way>
GRAPNEL_KERNEL(kBlockThreads)
pack_rows_kernel(std::int64_t count, Divisor taps, Divisor across, int in, Divisor padded, Divisor of_group,
                 std::int64_t apart, device::Global<ElementOf<Way>> packed, device::Global<const float> w,
                 std::int64_t stride_out, std::int64_t stride_in, std::int64_t stride_group,
                 std::int64_t stride_r, std::int64_t stride_s) {
  device::after_previous();
  const std::int64_t i = element();
  if (i >= count) return;
  const int line = static_cast<int>(i) / padded, channel = static_cast<int>(i) % padded, tap = line % taps,
            out = line / taps;
  const float weight = channel >= in ? 0
                                     : device::load(w, out / of_group * stride_group +
                                                           out % of_group * stride_out + channel * stride_in +
                                                           tap / across * stride_r + tap % across * stride_s);
  const auto parts = parts_of<Way>(weight);
  GRAPNEL_UNROLL
  for (std::size_t part = 0; part < Way::kParts; ++part)
    device::store(packed, static_cast<std::int64_t>(part) * apart + i, parts[part]);
}

/// Elements of one part of the packed weights.
template <class Way>
std::int64_t packed_elements(const Conv2d& p, ConvPass pass) {
  const bool forward = pass == ConvPass::forward;
  return (forward ? p.k : p.c) * p.r * p.s * whole_pieces<Way>((forward ? p.c : p.k) / p.groups);
}

template <class Way>
void pack_rows(const char* name, const Conv2d& conv, ConvPass pass, ElementOf<Way>* packed, const float* w,
               const std::int64_t* strides) {
  const bool forward = pass == ConvPass::forward;
  const std::int64_t filters = conv.k / conv.groups;
  for (const Phase& phase : phases_of(conv, pass)) {
    const Conv2d& p = phase.conv;
    const std::int64_t in = p.c / p.groups, padded = whole_pieces<Way>(in), count = p.k * p.r * p.s * padded;
    launch_each(name, count, pack_rows_kernel<Way>, count, p.r * p.s, p.s, static_cast<int>(in), padded,
                p.k / p.groups, packed_elements<Way>(conv, pass), packed + phase.lines * padded,
                w + phase.first[0] * strides[2] + phase.first[1] * strides[3], strides[forward ? 0 : 1],
                strides[forward ? 1 : 0], filters * strides[0], phase.every[0] * strides[2],
                phase.every[1] * strides[3]);
  }
}

/// Where the results of a phase go: an Output of all pixels sees it.
template <class Output>
struct StorePhase {
  Output all;
  Divisor rows, columns;
  int h, w, apart_h, apart_w, place_h, place_w;

  bool in_fours() const { return all.in_fours(); }
  template <int width>
  GRAPNEL_DEVICE void operator()(int group, int pixel, int n,
                                 const device::Vector<float, width>& sums) const {
    const Pixel at = pixel_of(pixel, rows, columns);
    all(group, (at.n * h + at.h * apart_h + place_h) * w + at.w * apart_w + place_w, n, sums);
  }
};

/// Where the sums of a weight gradient go, columns by taps, then channels up to `padded`: dw (K, C, R, S) of
/// `filters` for each group.
struct StoreTaps {
  float* dw;
  int filters, channels, taps;
  Divisor padded;

  bool in_fours() const { return padded % 4 == 0; }
  template <int width>
  GRAPNEL_DEVICE void operator()(int group, int k, int n, const device::Vector<float, width>& sums) const {
    const int tap = n / padded, channel = n % padded;
    const std::int64_t first = (std::int64_t{group} * filters + k) * channels + channel;
    GRAPNEL_UNROLL
    for (int e = 0; e < width; ++e)
      if (channel + e < channels) device::store(device::Global<float>(dw), (first + e) * taps + tap, sums[e]);
  }
};

/// Calls use(phase, output) for all of a pass that have pixels, with where their results go.
template <class Output, class Use>
void for_each_phase(const Conv2d& conv, ConvPass pass, const Output& output, const Use& use) {
  const auto i = [](std::int64_t value) { return static_cast<int>(value); };
  for (const Phase& phase : phases_of(conv, pass)) {
    const Conv2d& p = phase.conv;
    if (p.n * p.oh * p.ow == 0) continue;
    if (phase.apart == std::array<std::int64_t, 2>{1, 1})
      use(phase, output);
    else
      use(phase, StorePhase<Output>{output, p.oh, p.ow, i(conv.h), i(conv.w), i(phase.apart[0]),
                                    i(phase.apart[1]), i(phase.place[0]), i(phase.place[1])});
  }
}

}  // namespace grapnel::kernels
