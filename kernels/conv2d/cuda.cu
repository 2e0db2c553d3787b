// Convolutions and their gradients on a GPU as matrix products, with what follows them: on Hopper by
// hopper.cuh, what does not fit there and other GPUs by products.cuh.
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/conv2d/hopper_weight_grad.cuh"
#include "grapnel/kernels/conv2d/products.cuh"

namespace grapnel::kernels {
namespace {

using Index = std::int64_t;

/// Where forward's and input_grad's results go, `elements` of them: (pixel, channel of the group).
struct StoreFinished {
  float* out;
  Index elements;
  int channels, of_group;
  Epilogue<float> epilogue;

  bool in_fours() const {
    const Epilogue<float>& e = epilogue;
    return of_group % 4 == 0 && aligned_for_four({out, e.scale, e.shift, e.residual, e.mask, e.after});
  }
  template <int width>
  GRAPNEL_DEVICE void operator()(int group, int pixel, int n,
                                 const device::Vector<float, width>& sums) const {
    const int channel = group * of_group + n;
    const Index at = static_cast<Index>(pixel) * channels + channel;
    store_finished(device::Global<float>(out), elements, sums, epilogue, at, channel);
  }
};

const char* variant(const Conv2d& p, ConvPass pass) {
  const Precision mode = precision();
  const bool hopper =
      pass == ConvPass::weight_grad ? weight_grad_runs_on_hopper(p, mode) : runs_on_hopper(p, pass, mode);
  switch (mode) {
    case Precision::fp32:
      return hopper ? "hopper_fp32" : "implicit_gemm";
    case Precision::tf32:
      return hopper ? "hopper_tf32" : "ampere_tf32";
    case Precision::bf16:
      return hopper ? "hopper_bf16" : "ampere_bf16";
  }
  return nullptr;
}

/// Whatever the precision is by then: a weight is a float, with zeros up to whole pieces, or up to three
/// BFloat16.
std::size_t packed_size(const Conv2d& p, ConvPass pass) {
  const auto weights = static_cast<std::size_t>(packed_elements<AsTf32>(p, pass));
  return runs_on_hopper(p, pass, Precision::fp32) ? weights + (weights + 1) / 2 : weights;
}

void pack(const Conv2d& conv, ConvPass pass, float* packed, const float* w, const Index* strides) {
  const auto pack_as = [&]<class Way>() {
    pack_rows<Way>("conv2d's weights", conv, pass, reinterpret_cast<ElementOf<Way>*>(packed), w, strides);
  };
  const Precision mode = precision();
  runs_on_hopper(conv, pass, mode) ? as_precision_says(mode, pack_as) : as_tiles_multiply(mode, pack_as);
}

/// What somebody left of an operand, if it is what Way multiplies.
template <class Way>
const ElementOf<Way>* operand_of(const std::uint16_t* parts, int count) {
  if constexpr (std::is_same_v<ElementOf<Way>, device::BFloat16>)
    return reinterpret_cast<const device::BFloat16*>(count == Way::kParts ? parts : nullptr);
  else
    return nullptr;
}

void convolve(const char* name, const Conv2d& conv, ConvPass pass, const float* from, const float* packed,
              const StoreFinished& output) {
  const Parts& parts = output.epilogue.parts;
  const Precision mode = precision();
  if (runs_on_hopper(conv, pass, mode))
    return as_precision_says(mode, [&]<class Way>() {
      pass_on_hopper<Way>(name, conv, pass, from, operand_of<Way>(parts.input, parts.count),
                          reinterpret_cast<const ElementOf<Way>*>(packed), output);
    });
  as_tiles_multiply(mode, [&]<class Way>() {
    pass_by_products<Way>(name, conv, pass, from, operand_of<Way>(parts.input, parts.count),
                          reinterpret_cast<const ElementOf<Way>*>(packed), output);
  });
}

void forward(const Conv2d& conv, float* y, const float* x, const float* packed,
             const Epilogue<float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const StoreFinished output{y, Index{p.n} * p.oh * p.ow * p.k, p.k, p.k_group, epilogue};
  if (output.elements > 0) convolve("conv2d", conv, ConvPass::forward, x, packed, output);
}

void input_grad(const Conv2d& conv, float* dx, const float* dy, const float* packed,
                const Epilogue<float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const StoreFinished output{dx, Index{p.n} * p.h * p.w * p.c, p.c, p.c_group, epilogue};
  if (output.elements > 0) convolve("conv2d_input_grad", conv, ConvPass::input_grad, dy, packed, output);
}

void weight_grad(const Conv2d& conv, float* dw, const float* x, const float* dy, const std::uint16_t* x_parts,
                 const std::uint16_t* dy_parts) {
  if (conv.k * conv.c * conv.r * conv.s == 0) return;
  const Precision mode = precision();
  if (weight_grad_runs_on_hopper(conv, mode))
    return as_precision_says(mode, [&]<class Way>() {
      if constexpr (std::is_same_v<Way, AsTf32>)
        weight_grad_flat(conv, dw, x, dy);
      else
        weight_grad_on_hopper<Way>(conv, dw, x, dy, operand_of<Way>(x_parts, Way::kParts),
                                   operand_of<Way>(dy_parts, Way::kParts));
    });
  as_tiles_multiply(mode, [&]<class Way>() {
    weight_grad_by_products<Way>(conv, dw, x, dy, operand_of<Way>(x_parts, Way::kParts),
                                 operand_of<Way>(dy_parts, Way::kParts));
  });
}

/// Of float32 only Hopper multiplies parts.
int parts(Index channels) {
  const Precision mode = precision();
  if (mode == Precision::tf32 || channels % 8 != 0 || channels < 32) return 0;
  return mode == Precision::bf16 ? AsBf16::kParts : device::has_hopper() ? AsFp32::kParts : 0;
}

bool max_pool(const Conv2d&, const Pool2d&, float*, const float*, const float*, const Epilogue<float>&) {
  return false;
}

}  // namespace

void fill_conv2d_cuda(FloatKernels<float>& table) {
  table.conv2d_variant = variant;
  table.conv2d_packed_size = packed_size;
  table.conv2d_pack = pack;
  table.conv2d_parts = parts;
  table.conv2d_forward = forward;
  table.conv2d_input_grad = input_grad;
  table.conv2d_max_pool = max_pool;
  table.conv2d_weight_grad = weight_grad;
}

}  // namespace grapnel::kernels
