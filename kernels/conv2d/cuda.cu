// Convolutions and their gradients on a GPU as matrix products (sources.cuh), with what follows them.
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/conv2d/hopper_weight_grad.cuh"
#include "grapnel/kernels/conv2d/sources.cuh"
#include "grapnel/kernels/gemm/multiply.cuh"

namespace grapnel::kernels {
namespace {

using Index = std::int64_t;

/// Where forward's and input_grad's results go: (pixel, channel of the group).
struct StoreFinished {
  float* out;
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
    device::store_vector(device::Global<float>(out), at, finished(sums, epilogue, at, channel));
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
  return !hopper ? "implicit_gemm" : mode == Precision::tf32 ? "hopper_tf32" : "hopper_bf16";
}

/// For all variants, of which hopper_bf16 fills half.
std::size_t packed_size(const Conv2d& p, ConvPass) {
  return static_cast<std::size_t>(p.k * (p.c / p.groups) * p.r * p.s);
}

void pack(const Conv2d& conv, ConvPass pass, float* packed, const float* w, const Index* strides) {
  constexpr const char* kName = "conv2d's weights";
  const Precision mode = precision();
  if (!runs_on_hopper(conv, pass, mode))
    launch_each(kName, static_cast<Index>(packed_size(conv, pass)), pack_kernel, conv_shape(conv),
                pass == ConvPass::forward, packed, w, strides[0], strides[1], strides[2], strides[3]);
  else if (mode == Precision::tf32)
    pack_for_hopper(kName, conv, pass, packed, w, strides);
  else
    pack_for_hopper(kName, conv, pass, reinterpret_cast<device::BFloat16*>(packed), w, strides);
}

/// True, and done, if the pass runs on Hopper.
bool convolved_on_hopper(const char* name, const Conv2d& conv, ConvPass pass, const float* from,
                         const float* packed, const StoreFinished& output) {
  const Precision mode = precision();
  if (!runs_on_hopper(conv, pass, mode)) return false;
  if (mode == Precision::tf32)
    pass_on_hopper(name, conv, pass, from, packed, output);
  else
    pass_on_hopper(name, conv, pass, from, reinterpret_cast<const device::BFloat16*>(packed), output);
  return true;
}

void forward(const Conv2d& conv, float* y, const float* x, const float* packed,
             const Epilogue<float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const ProductSizes sizes{p.groups, p.n * p.oh * p.ow, p.k_group, p.r * p.s * p.c_group, 1};
  if (sizes.m == 0 || sizes.n == 0) return;
  const StoreFinished output{y, p.k, p.k_group, epilogue};
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
  const StoreFinished output{dx, p.c, p.c_group, epilogue};
  if (convolved_on_hopper("conv2d_input_grad", conv, ConvPass::input_grad, dy, packed, output)) return;
  with_width(p, {dy, packed}, [&]<int width>() {
    run_precisely<128>("conv2d_input_grad", sizes, ReachesByPixel<width>{dy, p},
                       Weights<width>{packed, sizes.k, sizes.n}, output);
  });
}

/// The sums of this one are long: tiles of 64 columns fold them as they go.
void weight_grad(const Conv2d& conv, float* dw, const float* x, const float* dy) {
  const ConvShape p = conv_shape(conv);
  const ProductSizes sizes{p.groups, p.k_group, p.r * p.s * p.c_group, p.n * p.oh * p.ow, 1};
  if (sizes.m == 0 || sizes.n == 0) return;
  const Precision mode = precision();
  if (weight_grad_runs_on_hopper(conv, mode))
    return mode == Precision::tf32 ? weight_grad_on_hopper<float>(conv, dw, x, dy)
                                   : weight_grad_on_hopper<device::BFloat16>(conv, dw, x, dy);
  with_width(p, {x, dy}, [&]<int width>() {
    run_precisely<64>("conv2d_weight_grad", sizes, GradientsByChannel<width>{dy, p},
                      PatchesByTap<width>{x, p}, StoreWeight{dw, p});
  });
}

bool max_pool(const Conv2d&, const Pool2d&, float*, const float*, const float*, const Epilogue<float>&) {
  return false;
}

}  // namespace

void fill_conv2d_cuda(FloatKernels<float>& table) {
  table.conv2d_variant = variant;
  table.conv2d_packed_size = packed_size;
  table.conv2d_pack = pack;
  table.conv2d_forward = forward;
  table.conv2d_input_grad = input_grad;
  table.conv2d_max_pool = max_pool;
  table.conv2d_weight_grad = weight_grad;
}

}  // namespace grapnel::kernels
