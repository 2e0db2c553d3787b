// The rows of the table: which convolution each instruction set runs.
#include "grapnel/kernels/conv2d/conv2d.h"

#include "grapnel/kernels/conv2d/direct.h"
#include "grapnel/kernels/conv2d/reference.h"

namespace grapnel::kernels {
namespace {

template <class T>
void fill_reference(FloatKernels<T>& table) {
  table.conv2d_packed_size = ReferenceConv2d<T>::packed_size;
  table.conv2d_pack = ReferenceConv2d<T>::pack;
  table.conv2d_forward = ReferenceConv2d<T>::forward;
  table.conv2d_input_grad = ReferenceConv2d<T>::input_grad;
  table.conv2d_weight_grad = ReferenceConv2d<T>::weight_grad;
}

template <const MicroKernel& kernel>
void fill_direct(FloatKernels<float>& table) {
  table.conv2d_packed_size = [](const Conv2d& shape, ConvPass pass) {
    return direct_packed_size(kernel, shape, pass);
  };
  table.conv2d_pack = [](const Conv2d& shape, ConvPass pass, float* packed, const float* w,
                         const std::int64_t* w_strides) {
    direct_pack(kernel, shape, pass, packed, w, w_strides);
  };
  table.conv2d_forward = [](const Conv2d& shape, float* y, const float* x, const float* packed,
                            const float* bias) {
    direct_correlate(kernel, shape, ConvPass::forward, y, x, packed, bias);
  };
  table.conv2d_input_grad = [](const Conv2d& shape, float* dx, const float* dy, const float* packed) {
    direct_correlate(kernel, shape, ConvPass::input_grad, dx, dy, packed, nullptr);
  };
  table.conv2d_weight_grad = [](const Conv2d& shape, float* dw, const float* x, const float* dy) {
    direct_weight_grad(kernel, shape, dw, x, dy);
  };
}

}  // namespace

void fill_conv2d(FloatKernels<float>& table, Isa isa) {
  switch (isa) {
    case Isa::reference:
      fill_reference(table);
      break;
    case Isa::portable:
      fill_direct<portable_microkernel>(table);
      break;
    case Isa::avx2:
      fill_direct<avx2_microkernel>(table);
      break;
    case Isa::avx512:
      fill_direct<avx512_microkernel>(table);
      break;
  }
}

void fill_conv2d(FloatKernels<double>& table, Isa) {
  fill_reference(table);
}

}  // namespace grapnel::kernels
