// Convolutions and their gradients on a GPU as matrix products (sources.cuh), with what follows them.
#include "grapnel/kernels/batch_norm/moments.cuh"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/conv2d/hopper_stem_weight_grad.cuh"
#include "grapnel/kernels/conv2d/sources.cuh"
#include "grapnel/kernels/gemm/multiply.cuh"

namespace grapnel::kernels {
namespace {

using Index = std::int64_t;

/// Where forward's and input_grad's results go, `elements` of them: (pixel, channel of the group).
template <class T>
struct StoreFinished {
  T* out;
  Index elements;
  int channels, of_group;
  Epilogue<T, float> epilogue;
  float* moments = nullptr;  // of pieces (sum_up_tile), if they are wanted

  bool in_fours() const {
    const Epilogue<T, float>& e = epilogue;
    return of_group % 4 == 0 && aligned_for_four(out, e.scale, e.shift, e.residual, e.mask, e.after);
  }
  template <int width>
  GRAPNEL_DEVICE void operator()(int group, int pixel, int n,
                                 const device::Vector<float, width>& sums) const {
    const int channel = group * of_group + n;
    const Index at = static_cast<Index>(pixel) * channels + channel;
    store_finished(device::Global<T>(out), elements, sums, epilogue, at, channel);
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
void with_width(const ConvShape& p, const float* a, const float* b, const Use& use) {
  const bool four = p.c_group % 4 == 0 && p.k_group % 4 == 0 && aligned_for_four(a, b);
  four ? use.template operator()<4>() : use.template operator()<1>();
}

const char* variant(const Conv2d& p, ConvPass pass) {
  const Precision mode = precision();
  const auto named = [mode](const char* fp32, const char* tf32, const char* bf16) {
    return mode == Precision::fp32 ? fp32 : mode == Precision::tf32 ? tf32 : bf16;
  };
  if (pass == ConvPass::weight_grad ? weight_grad_runs_as_stem(p)
                                    : pass == ConvPass::forward && runs_as_stem(p))
    return named("hopper_stem_fp32", "hopper_stem_tf32", "hopper_stem_bf16");
  const bool hopper =
      pass == ConvPass::weight_grad ? weight_grad_runs_on_hopper(p, mode) : runs_on_hopper(p, pass, mode);
  if (!hopper) return "implicit_gemm";
  return named("hopper_fp32", "hopper_tf32", "hopper_bf16");
}

/// Whatever the precision is by then: a weight is a float, or up to three BFloat16.
std::size_t packed_size(const Conv2d& p, ConvPass pass) {
  if (pass == ConvPass::forward && runs_as_stem(p)) return static_cast<std::size_t>(stem_packed_size(p));
  const auto weights = static_cast<std::size_t>(p.k * (p.c / p.groups) * p.r * p.s);
  return runs_on_hopper(p, pass, Precision::fp32) ? weights + (weights + 1) / 2 : weights;
}

void pack(const Conv2d& conv, ConvPass pass, float* packed, const float* w, const Index* strides) {
  constexpr const char* kName = "conv2d's weights";
  const Precision mode = precision();
  if (pass == ConvPass::forward && runs_as_stem(conv))
    return as_precision_says(mode, [&]<class Way>() {
      pack_stem<Way>(kName, conv, reinterpret_cast<ElementOf<Way>*>(packed), w, strides);
    });
  if (!runs_on_hopper(conv, pass, mode))
    return launch_each(kName, conv.k * (conv.c / conv.groups) * conv.r * conv.s, pack_kernel,
                       conv_shape(conv), pass == ConvPass::forward, packed, w, strides[0], strides[1],
                       strides[2], strides[3]);
  as_precision_says(mode, [&]<class Way>() {
    pack_for_hopper<Way>(kName, conv, pass, reinterpret_cast<ElementOf<Way>*>(packed), w, strides);
  });
}

/// Says how, if the pass runs on Hopper; otherwise nothing is done, and the width is 0.
Tiling convolved_on_hopper(const char* name, const Conv2d& conv, ConvPass pass, const float* from,
                           const float* packed, const StoreFinished<float>& output) {
  const Precision mode = precision();
  const bool stem = pass == ConvPass::forward && runs_as_stem(conv);
  if (!stem && !runs_on_hopper(conv, pass, mode)) return {};
  Tiling tiling{};
  as_precision_says(mode, [&]<class Way>() {
    const auto* weights = reinterpret_cast<const ElementOf<Way>*>(packed);
    const Parts& parts = output.epilogue.parts;
    const auto* operand =
        reinterpret_cast<const ElementOf<Way>*>(parts.count == Way::kParts ? parts.input : nullptr);
    tiling = stem ? convolve_stem<Way>(name, conv, from, weights, output)
                  : pass_on_hopper<Way>(name, conv, pass, from, operand, weights, output);
  });
  return tiling;
}
Tiling convolved_on_hopper(const char* name, const Conv2d& conv, ConvPass pass, const BFloat16* from,
                           const float* packed, const StoreFinished<BFloat16>& output) {
  const auto* weights = reinterpret_cast<const BFloat16*>(packed);
  if (pass == ConvPass::forward && runs_as_stem(conv))
    return convolve_stem<AsBf16>(name, conv, from, weights, output);
  if (!runs_on_hopper(conv, pass, Precision::bf16)) return {};
  return pass_on_hopper<AsBf16>(name, conv, pass, nullptr, from, weights, output);
}

/// BFloat16 that no kernel of theirs takes.
class Floats {
 public:
  Floats(const BFloat16* from, std::int64_t count)
      : memory_(static_cast<std::size_t>(count) * sizeof(float)) {
    finish_rows(count, 1, data(), from, Epilogue<float>{});
  }
  float* data() const { return memory_.of<float>(); }

 private:
  device::Workspace memory_;
};

/// Results that are made as floats first.
template <class Make>
void finish_floats(const StoreFinished<BFloat16>& output, const Make& make) {
  const device::Workspace floats(static_cast<std::size_t>(output.elements) * sizeof(float));
  make(floats.of<float>());
  finish_rows(output.elements / output.channels, output.channels, output.out, floats.of<float>(),
              output.epilogue);
}

void forward(const Conv2d& conv, float* y, const float* x, const float* packed,
             const Epilogue<float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const ProductSizes sizes{p.groups, p.n * p.oh * p.ow, p.k_group, p.r * p.s * p.c_group, 1};
  if (sizes.m == 0 || sizes.n == 0) return;
  const StoreFinished<float> output{y, Index{sizes.m} * p.k, p.k, p.k_group, epilogue};
  if (convolved_on_hopper("conv2d", conv, ConvPass::forward, x, packed, output).width > 0) return;
  with_width(p, x, packed, [&]<int width>() {
    run_precisely<128>("conv2d", sizes, PatchesByPixel<width>{x, p}, Weights<width>{packed, sizes.k, sizes.n},
                       output);
  });
}

void forward(const Conv2d& conv, BFloat16* y, const BFloat16* x, const float* packed,
             const Epilogue<BFloat16, float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const StoreFinished<BFloat16> output{y, conv.n * conv.oh * conv.ow * conv.k, p.k, p.k_group, epilogue};
  if (output.elements == 0 ||
      convolved_on_hopper("conv2d", conv, ConvPass::forward, x, packed, output).width > 0)
    return;
  const Floats floats(x, conv.n * conv.h * conv.w * conv.c);
  finish_floats(output, [&](float* to) { forward(conv, to, floats.data(), packed, {}); });
}

/// The product's kernel sums up its tiles where each is made by one block; otherwise y is read again.
template <class T>
void forward_with_moments(const Conv2d& conv, T* y, float* mean, float* variance, const T* x,
                          const float* packed, const Epilogue<T, float>& epilogue) {
  const Index rows = conv.n * conv.oh * conv.ow;
  const int channels = static_cast<int>(conv.k);
  // The shortest pieces are those of the narrowest tiles.
  constexpr Index kShortest = TilePieces<kHopperRows, 64, 256>::kLength;
  const device::Workspace pieces(static_cast<std::size_t>(tiles_for(rows, kShortest) * 2 * conv.k) *
                                 sizeof(float));
  const StoreFinished<T> output{y, rows * conv.k, channels, channels, epilogue, pieces.of<float>()};
  const Tiling tiling =
      rows == 0 ? Tiling{} : convolved_on_hopper("conv2d", conv, ConvPass::forward, x, packed, output);
  if (tiling.width == 0) forward(conv, y, x, packed, epilogue);
  const bool tiles_of_pixels = !runs_as_stem(conv) || stem_tiles_are_whole(conv);
  if (tiling.splits == 1 && tiles_of_pixels)
    moments_of_pieces({rows, conv.k, kShortest * tiling.width / 64, pieces.of<float>(), epilogue.shift}, mean,
                      variance);
  else
    channel_moments(rows, conv.k, mean, variance, y);
}

void input_grad(const Conv2d& conv, float* dx, const float* dy, const float* packed,
                const Epilogue<float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const ProductSizes sizes{p.groups, p.n * p.h * p.w, p.c_group, p.r * p.s * p.k_group, 1};
  if (sizes.m == 0 || sizes.n == 0) return;
  const StoreFinished<float> output{dx, Index{sizes.m} * p.c, p.c, p.c_group, epilogue};
  if (convolved_on_hopper("conv2d_input_grad", conv, ConvPass::input_grad, dy, packed, output).width > 0)
    return;
  with_width(p, dy, packed, [&]<int width>() {
    run_precisely<128>("conv2d_input_grad", sizes, ReachesByPixel<width>{dy, p},
                       Weights<width>{packed, sizes.k, sizes.n}, output);
  });
}

void input_grad(const Conv2d& conv, BFloat16* dx, const BFloat16* dy, const float* packed,
                const Epilogue<BFloat16, float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  const StoreFinished<BFloat16> output{dx, conv.n * conv.h * conv.w * conv.c, p.c, p.c_group, epilogue};
  if (output.elements == 0 ||
      convolved_on_hopper("conv2d_input_grad", conv, ConvPass::input_grad, dy, packed, output).width > 0)
    return;
  const Floats floats(dy, conv.n * conv.oh * conv.ow * conv.k);
  finish_floats(output, [&](float* to) { input_grad(conv, to, floats.data(), packed, {}); });
}

/// The sums of this one are long: tiles of 64 columns fold them as they go.
void weight_grad(const Conv2d& conv, float* dw, const float* x, const float* dy, const std::uint16_t* x_parts,
                 const std::uint16_t* dy_parts) {
  const ConvShape p = conv_shape(conv);
  const ProductSizes sizes{p.groups, p.k_group, p.r * p.s * p.c_group, p.n * p.oh * p.ow, 1};
  if (sizes.m == 0 || sizes.n == 0) return;
  const Precision mode = precision();
  if (weight_grad_runs_as_stem(conv))
    return as_precision_says(mode, [&]<class Way>() {
      using Parts = std::conditional_t<std::is_same_v<Way, AsTf32>, AsPair, Way>;
      weight_grad_of_stem<Parts, float>(conv, dw, x, dy, reinterpret_cast<const device::BFloat16*>(dy_parts));
    });
  if (weight_grad_runs_on_hopper(conv, mode))
    return as_precision_says(mode, [&]<class Way>() {
      if constexpr (std::is_same_v<Way, AsTf32>)
        weight_grad_flat(conv, dw, x, dy);
      else
        weight_grad_on_hopper<Way>(conv, dw, x, dy, reinterpret_cast<const device::BFloat16*>(x_parts),
                                   reinterpret_cast<const device::BFloat16*>(dy_parts));
    });
  with_width(p, x, dy, [&]<int width>() {
    run_precisely<64>("conv2d_weight_grad", sizes, GradientsByChannel<width>{dy, p},
                      PatchesByTap<width>{x, p}, StoreWeight{dw, p});
  });
}

void weight_grad(const Conv2d& conv, float* dw, const BFloat16* x, const BFloat16* dy, const std::uint16_t*,
                 const std::uint16_t*) {
  if (weight_grad_runs_as_stem(conv)) return weight_grad_of_stem<AsBf16, BFloat16>(conv, dw, x, nullptr, dy);
  if (weight_grad_runs_on_hopper(conv, Precision::bf16))
    return weight_grad_of_operands<AsBf16>(conv, dw, x, dy);
  const Floats x_floats(x, conv.n * conv.h * conv.w * conv.c),
      dy_floats(dy, conv.n * conv.oh * conv.ow * conv.k);
  weight_grad(conv, dw, x_floats.data(), dy_floats.data(), nullptr, nullptr);
}

/// Whether most convolutions over so many channels take operands of BFloat16, in one part or more.
bool takes_parts(Index channels) {
  return channels % 8 == 0 && channels >= 32 && device::has_hopper();
}
int parts(Index channels) {
  return precision() == Precision::fp32 && takes_parts(channels) ? AsFp32::kParts : 0;
}
bool keeps_bf16(Index channels) {
  return precision() == Precision::bf16 && takes_parts(channels);
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
  table.conv2d_moments = forward_with_moments<float>;
  table.conv2d_input_grad = input_grad;
  table.conv2d_max_pool = max_pool;
  table.conv2d_weight_grad = weight_grad;
}

void fill_conv2d_bf16_cuda(Table& table) {
  table.keeps_bf16 = keeps_bf16;
  table.bf16.conv2d_forward = forward;
  table.bf16.conv2d_moments = forward_with_moments<BFloat16>;
  table.bf16.conv2d_input_grad = input_grad;
  table.bf16.conv2d_weight_grad = weight_grad;
}

}  // namespace grapnel::kernels
