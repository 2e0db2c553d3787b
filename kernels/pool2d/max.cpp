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

/// The inputs that the window of output `o` covers, padding left out: `dilation` apart, taps 1.
PoolRange inputs_of_output(const Axis& a, std::int64_t o) {
  const std::int64_t start = o * a.stride - a.pad;
  const std::int64_t tap = start < 0 ? (-start + a.dilation - 1) / a.dilation : 0;
  const std::int64_t tap_end =
      start < a.in ? std::min(a.kernel, (a.in - start + a.dilation - 1) / a.dilation) : 0;
  return {start + tap * a.dilation, std::max<std::int64_t>(tap_end - tap, 0), tap};
}

/// For each input the outputs whose windows cover it: the o with o * stride - pad + tap * dilation = input
/// for a tap of the kernel. Neighbouring solutions are dilation / gcd(dilation, stride) apart and their taps
/// -stride / gcd.
const PoolRange* outputs_of_inputs(const Axis& a, Scratch<PoolRange>& scratch) {
  const std::int64_t step = a.dilation / std::gcd(a.dilation, a.stride);
  PoolRange* ranges = scratch.get(static_cast<std::size_t>(a.in));
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
  const MaxPool pool(kernel, s);
  const std::int64_t grain = line_grain(s.ow * s.c * s.kernel_h * s.kernel_w);
  parallel_for(s.n * s.oh, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t line = begin; line < end; ++line) {
      const std::int64_t row = line / s.oh * s.h + pool.rows_of(line % s.oh).begin, to = line * s.ow * s.c;
      pool.line(line % s.oh, y + to, taps != nullptr ? taps + to : nullptr, x + row * s.w * s.c);
    }
  });
}

template <const MaxPoolRows& kernel>
void max_pool2d_scatter(const Pool2d& s, float* dx, const float* dy, const std::uint8_t* taps) {
  static thread_local Scratch<PoolRange> row_scratch, column_scratch;
  const PoolRange* rows = outputs_of_inputs(height_of(s), row_scratch);
  const PoolRange* columns = outputs_of_inputs(width_of(s), column_scratch);
  const std::int64_t gcd_h = std::gcd(s.dil_h, s.stride_h), gcd_w = std::gcd(s.dil_w, s.stride_w);
  const std::int64_t grain = line_grain(s.w * s.c * s.kernel_h * s.kernel_w / (s.stride_h * s.stride_w));
  parallel_for(s.n * s.h, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t line = begin; line < end; ++line) {
      const PoolRange& h = rows[line % s.h];
      for (std::int64_t iw = 0; iw < s.w; ++iw) {
        const PoolRange& w = columns[iw];
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

MaxPool::MaxPool(const MaxPoolRows& kernel, const Pool2d& shape) : kernel_(kernel), shape_(shape) {
  static thread_local Scratch<PoolRange> scratch;
  PoolRange* columns = scratch.get(static_cast<std::size_t>(shape.ow));
  for (std::int64_t ow = 0; ow < shape.ow; ++ow) columns[ow] = inputs_of_output(width_of(shape), ow);
  columns_ = columns;
}

Range MaxPool::rows_of(std::int64_t oh) const {
  const std::int64_t start = oh * shape_.stride_h - shape_.pad_h;
  const std::int64_t end = start + (shape_.kernel_h - 1) * shape_.dil_h + 1;
  return {std::clamp<std::int64_t>(start, 0, shape_.h), std::clamp<std::int64_t>(end, 0, shape_.h)};
}

void MaxPool::line(std::int64_t oh, float* y, std::uint8_t* taps, const float* x) const {
  const Pool2d& s = shape_;
  const PoolRange h = inputs_of_output(height_of(s), oh);
  x += (h.first - rows_of(oh).begin) * s.w * s.c;
  for (std::int64_t ow = 0; ow < s.ow; ++ow) {
    const PoolRange& w = columns_[ow];
    const PoolWindow window = {.rows = h.count,
                               .columns = w.count,
                               .row_stride = s.dil_h * s.w * s.c,
                               .column_stride = s.dil_w * s.c,
                               .first_tap = h.first_tap * s.kernel_w + w.first_tap,
                               .tap_row_step = s.kernel_w,
                               .tap_column_step = 1};
    kernel_.maximum(window, s.c, y + ow * s.c, taps != nullptr ? taps + ow * s.c : nullptr,
                    x + w.first * s.c);
  }
}

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
