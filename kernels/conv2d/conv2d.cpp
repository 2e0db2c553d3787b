// The rows of the table: which convolution each instruction set runs.
#include "grapnel/kernels/conv2d/conv2d.h"

#include "grapnel/kernels/conv2d/direct.h"
#include "grapnel/kernels/conv2d/reference.h"
#include "grapnel/kernels/conv2d/scatter.h"

namespace grapnel::kernels {
namespace {

/// The variants of a fast table. Which one runs depends on the shape alone, so packing and product always
/// agree.
template <const MicroKernel& kernel>
struct Fast {
  static bool scatter(const Conv2d& shape, ConvPass pass) {
    return pass == ConvPass::input_grad && scatter_applies(kernel, shape);
  }
  static std::size_t packed_size(const Conv2d& shape, ConvPass pass) {
    return scatter(shape, pass) ? scatter_packed_size(kernel, shape)
                                : direct_packed_size(kernel, shape, pass);
  }
  static void pack(const Conv2d& shape, ConvPass pass, float* packed, const float* w,
                   const std::int64_t* w_strides) {
    if (scatter(shape, pass)) return scatter_pack(kernel, shape, packed, w, w_strides);
    direct_pack(kernel, shape, pass, packed, w, w_strides);
  }
  static void forward(const Conv2d& shape, float* y, const float* x, const float* packed, const float* bias) {
    direct_correlate(kernel, shape, ConvPass::forward, y, x, packed, bias);
  }
  static void input_grad(const Conv2d& shape, float* dx, const float* dy, const float* packed) {
    if (scatter(shape, ConvPass::input_grad)) return scatter_input_grad(kernel, shape, dx, dy, packed);
    direct_correlate(kernel, shape, ConvPass::input_grad, dx, dy, packed, nullptr);
  }
  static void weight_grad(const Conv2d& shape, float* dw, const float* x, const float* dy) {
    direct_weight_grad(kernel, shape, dw, x, dy);
  }
};

template <class Variants, class T>
void fill_from(FloatKernels<T>& table) {
  table.conv2d_packed_size = Variants::packed_size;
  table.conv2d_pack = Variants::pack;
  table.conv2d_forward = Variants::forward;
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
      fill_from<Fast<portable_microkernel>>(table);
      break;
    case Isa::avx2:
      fill_from<Fast<avx2_microkernel>>(table);
      break;
    case Isa::avx512:
      fill_from<Fast<avx512_microkernel>>(table);
      break;
  }
}

void fill_conv2d(FloatKernels<double>& table, Isa) {
  fill_from<ReferenceConv2d<double>>(table);
}

}  // namespace grapnel::kernels
