// Convolutions and their gradients on a GPU as matrix products (sources.cuh), with what follows them.
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/conv2d/hopper_weight_grad.cuh"
#include "grapnel/kernels/conv2d/sources.cuh"
#include "grapnel/kernels/gemm/multiply.cuh"

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

/// Where weight_grad's go: dw (K, C/groups, R, S).
struct StoreWeight {
  float* dw;
  ConvShape p;

  GRAPNEL_DEVICE void operator()(int group, int k, int n, const device::Vector<float, 1>& sum) const {
    const Tap tap = tap_of(n, p.s, p.c_group);
    const Index filter = static_cast<Index>(group) * p.k_group + k;
    const Index at = ((filter * p.c_group + tap.channel) * p.r + tap.r) * p.s + tap.s;
    device::store(device::Global<float>(dw), at, sum[0]);
  }
};

/// packed[group][(r, s, in)][out], from the weights of any strides; for input_grad, in and out change sides.
GRAPNEL_KERNEL(kBlockThreads)
pack_kernel(ConvShape p, bool forward, device::Global<float> packed, device::Global<const float> w,
            Index stride_k, Index stride_c, Index stride_r, Index stride_s) {
  device::after_previous();
  const Divisor in = forward ? p.c_group : p.k_group, out = forward ? p.k_group : p.c_group;
  const Index i = element(), per_group = static_cast<Index>(p.r) * p.s * in * out;
  if (i >= p.groups * per_group) return;
  const int group = static_cast<int>(i / per_group), at = static_cast<int>(i % per_group);
  const Tap tap = tap_of(at / out, p.s, in);
  const int k = group * p.k_group + (forward ? at % out : tap.channel);
  const int c = forward ? tap.channel : at % out;
  device::store(packed, i,
                device::load(w, k * stride_k + c * stride_c + tap.r * stride_r + tap.s * stride_s));
}

/// Calls use.operator()<width>(): four elements at once where every row of channels begins at a multiple of
/// 16 bytes.
template <class Use>
void with_width(const ConvShape& p, std::initializer_list<const float*> operands, const Use& use) {
  const bool four = p.c_group % 4 == 0 && p.k_group % 4 == 0 && aligned_for_four(operands);
  four ? use.template operator()<4>() : use.template operator()<1>();
}

const char* variant(const Conv2d& p, ConvPass pass) {
  const Precision mode = precision();
  const bool hopper =
      pass == ConvPass::weight_grad ? weight_grad_runs_on_hopper(p, mode) : runs_on_hopper(p, pass, mode);
  if (!hopper) return "implicit_gemm";
  return mode == Precision::fp32 ? "hopper_fp32" : mode == Precision::tf32 ? "hopper_tf32" : "hopper_bf16";
}

/// Whatever the precision is by then: a weight is a float, or up to three BFloat16.
std::size_t packed_size(const Conv2d& p, ConvPass pass) {
  const auto weights = static_cast<std::size_t>(p.k * (p.c / p.groups) * p.r * p.s);
  return runs_on_hopper(p, pass, Precision::fp32) ? weights + (weights + 1) / 2 : weights;
}

void pack(const Conv2d& conv, ConvPass pass, float* packed, const float* w, const Index* strides) {
  constexpr const char* kName = "conv2d's weights";
  const Precision mode = precision();
  if (!runs_on_hopper(conv, pass, mode))
    return launch_each(kName, conv.k * (conv.c / conv.groups) * conv.r * conv.s, pack_kernel,
                       conv_shape(conv), pass == ConvPass::forward, packed, w, strides[0], strides[1],
                       strides[2], strides[3]);
  as_precision_says(mode, [&]<class Way>() {
    pack_for_hopper<Way>(kName, conv, pass, reinterpret_cast<ElementOf<Way>*>(packed), w, strides);
  });
}

/// True, and done, if the pass runs on Hopper.
bool convolved_on_hopper(const char* name, const Conv2d& conv, ConvPass pass, const float* from,
                         const float* packed, const StoreFinished& output) {
  const Precision mode = precision();
  if (!runs_on_hopper(conv, pass, mode)) return false;
  as_precision_says(mode, [&]<class Way>() {
    const Parts& parts = output.epilogue.parts;
    const auto* operand =
        reinterpret_cast<const ElementOf<Way>*>(parts.count == Way::kParts ? parts.input : nullptr);
    pass_on_hopper<Way>(name, conv, pass, from, operand, reinterpret_cast<const ElementOf<Way>*>(packed),
                        output);
  });
  return true;
}

void forward(const Conv2d& conv, float* y, const float* x, const float* packed,
             const Epilogue<float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const ProductSizes sizes{p.groups, p.n * p.oh * p.ow, p.k_group, p.r * p.s * p.c_group, 1};
  if (sizes.m == 0 || sizes.n == 0) return;
  const StoreFinished output{y, Index{sizes.m} * p.k, p.k, p.k_group, epilogue};
  if (convolved_on_hopper("conv2d", conv, ConvPass::forward, x, packed, output)) return;
  with_width(p, {x, packed}, [&]<int width>() {
    run_precisely<128>("conv2d", sizes, PatchesByPixel<width>{x, p}, Weights<width>{packed, sizes.k, sizes.n},
                       output);
  });
}

void input_grad(const Conv2d& conv, float* dx, const float* dy, const float* packed,
                const Epilogue<float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const ProductSizes sizes{p.groups, p.n * p.h * p.w, p.c_group, p.r * p.s * p.k_group, 1};
  if (sizes.m == 0 || sizes.n == 0) return;
  const StoreFinished output{dx, Index{sizes.m} * p.c, p.c, p.c_group, epilogue};
  if (convolved_on_hopper("conv2d_input_grad", conv, ConvPass::input_grad, dy, packed, output)) return;
  with_width(p, {dy, packed}, [&]<int width>() {
    run_precisely<128>("conv2d_input_grad", sizes, ReachesByPixel<width>{dy, p},
                       Weights<width>{packed, sizes.k, sizes.n}, output);
  });
}

/// The sums of this one are long: tiles of 64 columns fold them as they go.
void weight_grad(const Conv2d& conv, float* dw, const float* x, const float* dy, const std::uint16_t* x_parts,
                 const std::uint16_t* dy_parts) {
  const ConvShape p = conv_shape(conv);
  const ProductSizes sizes{p.groups, p.k_group, p.r * p.s * p.c_group, p.n * p.oh * p.ow, 1};
  if (sizes.m == 0 || sizes.n == 0) return;
  const Precision mode = precision();
  if (weight_grad_runs_on_hopper(conv, mode))
    return as_precision_says(mode, [&]<class Way>() {
      if constexpr (std::is_same_v<Way, AsTf32>)
        weight_grad_flat(conv, dw, x, dy);
      else
        weight_grad_on_hopper<Way>(conv, dw, x, dy, reinterpret_cast<const device::BFloat16*>(x_parts),
                                   reinterpret_cast<const device::BFloat16*>(dy_parts));
    });
  with_width(p, {x, dy}, [&]<int width>() {
    run_precisely<64>("conv2d_weight_grad", sizes, GradientsByChannel<width>{dy, p},
                      PatchesByTap<width>{x, p}, StoreWeight{dw, p});
  });
}

int parts(Index channels) {
  const Precision mode = precision();
  return mode == Precision::tf32 || channels % 8 != 0 || channels < 32 || !device::has_hopper() ? 0
         : mode == Precision::bf16 ? AsBf16::kParts
                                   : AsFp32::kParts;
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
