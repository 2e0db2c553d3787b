// Max pooling window by window. Its backward does not scatter: each input pixel collects from the windows
// that cover it, always in the same order, so threads may share the pixels in any way.
#include <algorithm>
#include <cstdint>
#include <numeric>

#include "grapnel/kernels/common/scratch.h"
#include "grapnel/kernels/parallel.h"
#include "grapnel/kernels/pool2d/pool2d.h"
#include "grapnel/kernels/pool2d/reference.h"

namespace grapnel::kernels {
namespace {

/// One axis of a pooling: the sizes that decide which window covers what.
struct Axis {
  std::int64_t in, out, kernel, stride, pad, dilation;
};

Axis height_of(const Pool2d& s) {
  return {s.h, s.oh, s.kernel_h, s.stride_h, s.pad_h, s.dil_h};
}
Axis width_of(const Pool2d& s) {
  return {s.w, s.ow, s.kernel_w, s.stride_w, s.pad_w, s.dil_w};
}

/// `count` positions along an axis, `step` apart from `first`, and the tap (window position along this axis)
/// of the first.
struct Range {
  std::int64_t first, count, first_tap;
};

/// For each output the inputs that its window covers, padding left out. Positions are `dilation` apart and
/// taps 1.
const Range* inputs_of_outputs(const Axis& a, Scratch<Range>& scratch) {
  Range* ranges = scratch.get(static_cast<std::size_t>(a.out));
  for (std::int64_t o = 0; o < a.out; ++o) {
    const std::int64_t start = o * a.stride - a.pad;
    const std::int64_t tap = start < 0 ? (-start + a.dilation - 1) / a.dilation : 0;
    const std::int64_t tap_end =
        start < a.in ? std::min(a.kernel, (a.in - start + a.dilation - 1) / a.dilation) : 0;
    ranges[o] = {start + tap * a.dilation, std::max<std::int64_t>(tap_end - tap, 0), tap};
  }
  return ranges;
}

/// For each input the outputs whose windows cover it: the o with o * stride - pad + tap * dilation = input
/// for a tap of the kernel. Neighbouring solutions are dilation / gcd(dilation, stride) apart and their taps
/// -stride / gcd.
const Range* outputs_of_inputs(const Axis& a, Scratch<Range>& scratch) {
  const std::int64_t step = a.dilation / std::gcd(a.dilation, a.stride);
  Range* ranges = scratch.get(static_cast<std::size_t>(a.in));
  for (std::int64_t i = 0; i < a.in; ++i) {
    const auto covers = [&](std::int64_t o) {
      const std::int64_t reach = i + a.pad - o * a.stride;
      return reach >= 0 && reach % a.dilation == 0 && reach / a.dilation < a.kernel;
    };
    const std::int64_t reach = i + a.pad - a.dilation * (a.kernel - 1);
    std::int64_t first = reach > 0 ? (reach + a.stride - 1) / a.stride : 0, count = 0;
    for (std::int64_t tries = 0; tries < step && !covers(first); ++tries) ++first;
    while (first + count * step < a.out && covers(first + count * step)) ++count;
    ranges[i] = {first, count, count > 0 ? (i + a.pad - first * a.stride) / a.dilation : 0};
  }
  return ranges;
}

/// Lines of pixels a thread should get at least, given how many elements each reads.
std::int64_t line_grain(std::int64_t reads_per_line) {
  constexpr std::int64_t kReads = 64 * 1024;
  return kReads / std::max<std::int64_t>(reads_per_line, 1) + 1;
}

template <const MaxPoolRows& kernel>
void max_pool2d(const Pool2d& s, float* y, std::uint8_t* taps, const float* x) {
  static thread_local Scratch<Range> row_scratch, column_scratch;
  const Range* rows = inputs_of_outputs(height_of(s), row_scratch);
  const Range* columns = inputs_of_outputs(width_of(s), column_scratch);
  const std::int64_t grain = line_grain(s.ow * s.c * s.kernel_h * s.kernel_w);
  parallel_for(s.n * s.oh, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t line = begin; line < end; ++line) {
      const Range& h = rows[line % s.oh];
      for (std::int64_t ow = 0; ow < s.ow; ++ow) {
        const Range& w = columns[ow];
        const PoolWindow window = {.rows = h.count,
                                   .columns = w.count,
                                   .row_stride = s.dil_h * s.w * s.c,
                                   .column_stride = s.dil_w * s.c,
                                   .first_tap = h.first_tap * s.kernel_w + w.first_tap,
                                   .tap_row_step = s.kernel_w,
                                   .tap_column_step = 1};
        const std::int64_t from = ((line / s.oh * s.h + h.first) * s.w + w.first) * s.c,
                           to = (line * s.ow + ow) * s.c;
        kernel.maximum(window, s.c, y + to, taps != nullptr ? taps + to : nullptr, x + from);
      }
    }
  });
}

template <const MaxPoolRows& kernel>
void max_pool2d_scatter(const Pool2d& s, float* dx, const float* dy, const std::uint8_t* taps) {
  static thread_local Scratch<Range> row_scratch, column_scratch;
  const Range* rows = outputs_of_inputs(height_of(s), row_scratch);
  const Range* columns = outputs_of_inputs(width_of(s), column_scratch);
  const std::int64_t gcd_h = std::gcd(s.dil_h, s.stride_h), gcd_w = std::gcd(s.dil_w, s.stride_w);
  const std::int64_t grain = line_grain(s.w * s.c * s.kernel_h * s.kernel_w / (s.stride_h * s.stride_w));
  parallel_for(s.n * s.h, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t line = begin; line < end; ++line) {
      const Range& h = rows[line % s.h];
      for (std::int64_t iw = 0; iw < s.w; ++iw) {
        const Range& w = columns[iw];
        const PoolWindow window = {.rows = h.count,
                                   .columns = w.count,
                                   .row_stride = s.dil_h / gcd_h * s.ow * s.c,
                                   .column_stride = s.dil_w / gcd_w * s.c,
                                   .first_tap = h.first_tap * s.kernel_w + w.first_tap,
                                   .tap_row_step = -s.stride_h / gcd_h * s.kernel_w,
                                   .tap_column_step = -s.stride_w / gcd_w};
        const std::int64_t from = ((line / s.h * s.oh + h.first) * s.ow + w.first) * s.c,
                           to = (line * s.w + iw) * s.c;
        kernel.collect(window, s.c, dx + to, dy + from, taps + from);
      }
    }
  });
}

template <const MaxPoolRows& kernel>
void fill(FloatKernels<float>& table) {
  table.max_pool2d = max_pool2d<kernel>;
  table.max_pool2d_scatter = max_pool2d_scatter<kernel>;
  table.max_pool2d_gather = reference::max_pool2d_gather<float>;
}

template <class T>
void fill_reference(FloatKernels<T>& table) {
  table.max_pool2d = reference::max_pool2d<T>;
  table.max_pool2d_scatter = reference::max_pool2d_scatter<T>;
  table.max_pool2d_gather = reference::max_pool2d_gather<T>;
}

}  // namespace

void fill_pool2d(FloatKernels<float>& table, Isa isa) {
  fill_avg_pool2d(table, isa);
  switch (isa) {
    case Isa::reference:
      return fill_reference(table);
    case Isa::portable:
      return fill<max_pool_portable>(table);
    case Isa::avx2:
      return fill<max_pool_avx2>(table);
    case Isa::avx512:
      return fill<max_pool_avx512>(table);
  }
}

void fill_pool2d(FloatKernels<double>& table, Isa isa) {
  fill_avg_pool2d(table, isa);
  fill_reference(table);
}

}  // namespace grapnel::kernels
