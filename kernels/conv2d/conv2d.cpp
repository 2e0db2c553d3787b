// The rows of the table: which convolution each instruction set runs, and for which shapes.
#include "grapnel/kernels/conv2d/conv2d.h"

#include <string_view>

#include "grapnel/kernels/conv2d/direct.h"
#include "grapnel/kernels/conv2d/max_pool.h"
#include "grapnel/kernels/conv2d/preference.h"
#include "grapnel/kernels/conv2d/reference.h"
#include "grapnel/kernels/conv2d/scatter.h"
#include "grapnel/kernels/winograd/choice.h"

namespace grapnel::kernels {
namespace {

/// The variants of a fast table. Which one runs depends on the shape and on what was preferred for it, never
/// on a clock or on the number of threads: packing and product always agree, and so do the bits of any two
/// runs.
template <const MicroKernel& kernel, const Winograd& winograd, const MaxPoolRows& maximum>
struct Fast {
  static bool scatter(const Conv2d& shape, ConvPass pass) {
    return pass == ConvPass::input_grad && scatter_applies(kernel, shape);
  }
  static Tiling tiling(const Conv2d& shape, ConvPass pass) {
    const std::string_view preferred = preferred_conv2d(shape, pass);
    if (preferred == "direct" || scatter(shape, pass)) return Tiling::none;
    if (pass == ConvPass::forward && winograd_rows_applies(shape)) {
      const bool rows = preferred == winograd.stem.name || rows_pay(winograd.stem, shape);
      return rows ? Tiling::rows : Tiling::none;
    }
    if (!winograd_applies(shape, pass)) return Tiling::none;
    if (preferred == winograd.two.name) return Tiling::two;
    const bool few = preferred == winograd.few.name;
    if (shape.stride_h == 1) {
      if (preferred == winograd.six.name) return Tiling::six;
      if (few && pass != ConvPass::weight_grad) return Tiling::few;
    }
    if (preferred == winograd.four.name || (few && shape.stride_h == 1)) return Tiling::four;
    return best_tiling(kernel, winograd, shape, pass);
  }
  /// Of two, four, six or rows.
  static const WinogradMaps& maps(const Conv2d& shape, Tiling tiling) {
    return winograd_maps(winograd, shape, tiling);
  }
  static const char* variant(const Conv2d& shape, ConvPass pass) {
    if (scatter(shape, pass)) return "scatter";
    const Tiling by = tiling(shape, pass);
    return by == Tiling::none ? "direct" : by == Tiling::few ? winograd.few.name : maps(shape, by).name;
  }
  static std::size_t packed_size(const Conv2d& shape, ConvPass pass) {
    if (scatter(shape, pass)) return scatter_packed_size(kernel, shape);
    const Tiling by = tiling(shape, pass);
    if (by == Tiling::none) return direct_packed_size(kernel, shape, pass);
    if (by == Tiling::few) return winograd_few_packed_size(kernel, shape, pass);
    if (by == Tiling::rows) return winograd_rows_packed_size(kernel, winograd.stem, shape);
    return winograd_packed_size(kernel, maps(shape, by), shape, pass);
  }
  static void pack(const Conv2d& shape, ConvPass pass, float* packed, const float* w,
                   const std::int64_t* w_strides) {
    if (scatter(shape, pass)) return scatter_pack(kernel, shape, packed, w, w_strides);
    const Tiling by = tiling(shape, pass);
    if (by == Tiling::none) return direct_pack(kernel, shape, pass, packed, w, w_strides);
    if (by == Tiling::few) return winograd_few_pack(kernel, shape, pass, packed, w, w_strides);
    if (by == Tiling::rows) return winograd_rows_pack(kernel, winograd.stem, shape, packed, w, w_strides);
    winograd_pack(kernel, maps(shape, by), shape, pass, packed, w, w_strides);
  }
  static void correlate(const Conv2d& shape, ConvPass pass, float* out, const float* in, const float* packed,
                        const Epilogue<float>& epilogue) {
    const Tiling by = tiling(shape, pass);
    if (by == Tiling::none) return direct_correlate(kernel, shape, pass, out, in, packed, epilogue);
    if (by == Tiling::few)
      return winograd_few_correlate(kernel, winograd, shape, pass, out, in, packed, epilogue);
    if (by == Tiling::rows)
      return winograd_rows_forward(kernel, winograd.stem, shape, out, in, packed, epilogue);
    winograd_correlate(kernel, maps(shape, by), shape, pass, out, in, packed, epilogue);
  }
  static void forward(const Conv2d& shape, float* y, const float* x, const float* packed,
                      const Epilogue<float>& epilogue) {
    correlate(shape, ConvPass::forward, y, x, packed, epilogue);
  }
  static bool max_pool(const Conv2d& shape, const Pool2d& pool, float* y, const float* x, const float* packed,
                       const Epilogue<float>& epilogue) {
    const Tiling by = tiling(shape, ConvPass::forward);
    if (by == Tiling::none)
      return conv2d_max_pool(maximum, shape, pool, y, 1, epilogue, [&](Range rows, float* out) {
        direct_rows(kernel, shape, rows, out, x, packed, epilogue);
      });
    return by == Tiling::rows &&
           conv2d_max_pool(maximum, shape, pool, y, winograd.stem.outputs, epilogue,
                           [&](Range rows, float* out) {
                             winograd_rows(kernel, winograd.stem, shape, rows, out, x, packed, epilogue);
                           });
  }
  static void input_grad(const Conv2d& shape, float* dx, const float* dy, const float* packed,
                         const Epilogue<float>& epilogue) {
    if (scatter(shape, ConvPass::input_grad))
      return scatter_input_grad(kernel, shape, dx, dy, packed, epilogue);
    correlate(shape, ConvPass::input_grad, dx, dy, packed, epilogue);
  }
  static void weight_grad(const Conv2d& shape, float* dw, const float* x, const float* dy,
                          const std::uint16_t*, const std::uint16_t*) {
    const Tiling by = tiling(shape, ConvPass::weight_grad);
    if (by != Tiling::none) return winograd_weight_grad(kernel, maps(shape, by), shape, dw, x, dy);
    direct_weight_grad(kernel, shape, dw, x, dy);
  }
};

template <class Variants, class T>
void fill_from(FloatKernels<T>& table) {
  table.conv2d_variant = Variants::variant;
  table.conv2d_packed_size = Variants::packed_size;
  table.conv2d_pack = Variants::pack;
  table.conv2d_forward = Variants::forward;
  table.conv2d_max_pool = Variants::max_pool;
  table.conv2d_input_grad = Variants::input_grad;
  table.conv2d_weight_grad = Variants::weight_grad;
}

}  // namespace

void fill_conv2d(FloatKernels<float>& table, Isa isa) {
  switch (isa) {
    case Isa::reference:
      fill_from<ReferenceConv2d<float>>(table);
      break;
    case Isa::portable:
      fill_from<Fast<portable_microkernel, winograd_portable, max_pool_portable>>(table);
      break;
    case Isa::avx2:
      fill_from<Fast<avx2_microkernel, winograd_avx2, max_pool_avx2>>(table);
      break;
    case Isa::avx512:
      fill_from<Fast<avx512_microkernel, winograd_avx512, max_pool_avx512>>(table);
      break;
  }
}

void fill_conv2d(FloatKernels<double>& table, Isa) {
  fill_from<ReferenceConv2d<double>>(table);
}

}  // namespace grapnel::kernels
