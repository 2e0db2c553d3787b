// Convolutions and their gradients on a GPU as matrix products, with what follows them: on Hopper by
// hopper.cuh, what does not fit there and other GPUs by products.cuh.
#include "grapnel/kernels/batch_norm/moments.cuh"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/common/epilogue.cuh"
#include "grapnel/kernels/conv2d/hopper_stem_weight_grad.cuh"
#include "grapnel/kernels/conv2d/max_pool.cuh"
#include "grapnel/kernels/conv2d/products.cuh"

namespace grapnel::kernels {
namespace {

using Index = std::int64_t;

/// Where forward's and input_grad's results go, `elements` of them: (pixel, channel of the group). Or, if
/// sums are split, their maxima.
template <class T>
struct StoreFinished {
  T* out;
  Index elements;
  int channels, of_group;
  Epilogue<T, float> epilogue;
  float* moments = nullptr;  // of pieces (sum_up_tile), if they are wanted
  MaxWindows pool = {};

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
  bool fold_splits(const char* name, const ProductSizes& s, const float* partial) const {
    if (pool.kernel_h == 0) return false;
    fold_maxima(name, s, pool, epilogue, out, partial);
    return true;
  }
};

/// Whether a pass is that of a first layer on Hopper.
bool made_as_stem(const Conv2d& p, ConvPass pass) {
  if (pass == ConvPass::weight_grad) return weight_grad_runs_as_stem(p);
  return pass == ConvPass::forward && runs_as_stem(p);
}

const char* variant(const Conv2d& p, ConvPass pass) {
  const Precision mode = precision();
  const auto named = [mode](const char* fp32, const char* tf32, const char* bf16) {
    return mode == Precision::fp32 ? fp32 : mode == Precision::tf32 ? tf32 : bf16;
  };
  if (made_as_stem(p, pass)) return named("hopper_stem_fp32", "hopper_stem_tf32", "hopper_stem_bf16");
  const bool hopper =
      pass == ConvPass::weight_grad ? weight_grad_runs_on_hopper(p, mode) : runs_on_hopper(p, pass, mode);
  return hopper ? named("hopper_fp32", "hopper_tf32", "hopper_bf16")
                : named("implicit_gemm", "ampere_tf32", "ampere_bf16");
}

/// Whatever the precision is by then: a weight is a float, with zeros up to whole pieces, or up to three
/// BFloat16.
std::size_t packed_size(const Conv2d& p, ConvPass pass) {
  if (made_as_stem(p, pass)) return static_cast<std::size_t>(stem_packed_size(p));
  const auto weights = static_cast<std::size_t>(packed_elements<AsTf32>(p, pass));
  return runs_on_hopper(p, pass, Precision::fp32) ? weights + (weights + 1) / 2 : weights;
}

void pack(const Conv2d& conv, ConvPass pass, float* packed, const float* w, const Index* strides) {
  constexpr const char* kName = "conv2d's weights";
  const Precision mode = precision();
  if (made_as_stem(conv, pass))
    return as_precision_says(mode, [&]<class Way>() {
      pack_stem<Way>(kName, conv, reinterpret_cast<ElementOf<Way>*>(packed), w, strides);
    });
  const auto pack_as = [&]<class Way>() {
    pack_rows<Way>(kName, conv, pass, reinterpret_cast<ElementOf<Way>*>(packed), w, strides);
  };
  runs_on_hopper(conv, pass, mode) ? as_precision_says(mode, pack_as) : as_tiles_multiply(mode, pack_as);
}

/// What Way multiplies of an operand, if it is there: BFloat16, or parts that somebody left of floats.
template <class Way, class T>
const ElementOf<Way>* operand_of(const T* values, const std::uint16_t* parts, int count) {
  if constexpr (std::is_same_v<T, ElementOf<Way>> && !std::is_same_v<T, float>)
    return values;
  else if constexpr (std::is_same_v<ElementOf<Way>, BFloat16>)
    return reinterpret_cast<const BFloat16*>(count == Way::kParts ? parts : nullptr);
  else
    return nullptr;
}

/// Calls use.operator()<way>() with how Hopper multiplies T, or with how other GPUs do.
template <class T, class Use>
void as_multiplied(bool hopper, const Use& use) {
  if constexpr (std::is_same_v<T, BFloat16>)
    use.template operator()<AsBf16>();
  else if (hopper)
    as_precision_says(precision(), use);
  else
    as_tiles_multiply(precision(), use);
}

template <class T>
using InputOf = typename ActivationKernels<T, float>::Input;

/// Calls use(data) with elements of either type.
template <class T, class Use>
auto with_input(const InputOf<T>& x, const Use& use) {
  if constexpr (std::is_same_v<InputOf<T>, const T*>)
    return use(x);
  else
    return x.kept ? use(x.kept) : use(x.floats);
}

/// A pass over x or dy. Gives what run_product does.
template <class T, class From>
int convolve(const char* name, const Conv2d& conv, ConvPass pass, const From* from, const float* packed,
             const StoreFinished<T>& output) {
  if (output.elements == 0) return 0;
  const Parts& parts = output.epilogue.parts;
  const bool stem = made_as_stem(conv, pass), hopper = stem || runs_on_hopper(conv, pass, precision());
  int piece = 0;
  as_multiplied<T>(hopper, [&]<class Way>() {
    const auto* operand = operand_of<Way>(from, parts.input, parts.count);
    const auto* weights = reinterpret_cast<const ElementOf<Way>*>(packed);
    if constexpr (!std::is_same_v<Way, AsFloats>)
      if (hopper) {
        piece = stem ? convolve_stem<Way>(name, conv, from, weights, output)
                     : pass_on_hopper<Way>(name, conv, pass, from, operand, weights, output);
        return;
      }
    if constexpr (!std::is_same_v<Way, AsFp32>)
      piece = pass_by_products<Way>(name, conv, pass, from, operand, weights, output);
  });
  return piece;
}

template <class T>
int forward_into(const Conv2d& conv, const InputOf<T>& x, const float* packed,
                 const StoreFinished<T>& output) {
  return with_input<T>(x, [&](const auto* from) {
    return convolve<T>("conv2d", conv, ConvPass::forward, from, packed, output);
  });
}

template <class T>
void forward(const Conv2d& conv, T* y, InputOf<T> x, const float* packed,
             const Epilogue<T, float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  forward_into<T>(conv, x, packed, {y, Index{p.n} * p.oh * p.ow * p.k, p.k, p.k_group, epilogue});
}

/// The product's kernel sums up its tiles where each is made by one block; otherwise y is read again.
template <class T>
void forward_with_moments(const Conv2d& conv, T* y, float* mean, float* variance, InputOf<T> x,
                          const float* packed, const Epilogue<T, float>& epilogue) {
  constexpr Index kShortest = 16;  // of all pieces
  const ConvShape p = conv_shape(conv);
  const Index rows = Index{p.n} * p.oh * p.ow;
  const device::Workspace pieces(static_cast<std::size_t>(tiles_for(rows, kShortest) * 2 * conv.k) *
                                 sizeof(float));
  const int piece =
      forward_into<T>(conv, x, packed, {y, rows * p.k, p.k, p.k_group, epilogue, pieces.of<float>()});
  if (piece > 0)
    moments_of_pieces({rows, conv.k, piece, pieces.of<float>(), epilogue.shift}, mean, variance);
  else
    channel_moments(rows, conv.k, mean, variance, y);
}

/// Whether blocks share the sums of a forward pass.
template <class T, class From>
bool is_split(const Conv2d& conv, const From* x) {
  if (made_as_stem(conv, ConvPass::forward)) return false;
  const bool hopper = runs_on_hopper(conv, ConvPass::forward, precision());
  int splits = 1;
  as_multiplied<T>(hopper, [&]<class Way>() {
    if constexpr (!std::is_same_v<Way, AsFloats>)
      if (hopper) {
        const ProductSizes s = hopper_sizes<Way>(conv_shape(conv));
        splits = tiling_for<Way>(s.m, s.n, s.k).splits;
        return;
      }
    if constexpr (!std::is_same_v<Way, AsFp32>) splits = splits_of_products<Way>(conv, x);
  });
  return splits > 1;
}

template <class T>
bool max_pool(const Conv2d& conv, const Pool2d& pool, T* y, InputOf<T> x, const float* packed,
              const Epilogue<T, float>& epilogue) {
  const Index elements = conv.n * conv.oh * conv.ow * conv.k;
  if (elements == 0 || !MaxWindows::fit(pool) || epilogue.parts.result ||
      !with_input<T>(x, [&](const auto* from) { return is_split<T>(conv, from); }))
    return false;
  const ConvShape p = conv_shape(conv);
  forward_into<T>(conv, x, packed, {y, elements, p.k, p.k_group, epilogue, nullptr, MaxWindows::of(pool)});
  return true;
}

template <class T>
void input_grad(const Conv2d& conv, T* dx, const T* dy, const float* packed,
                const Epilogue<T, float>& epilogue) {
  const ConvShape p = conv_shape(conv);
  convolve<T>("conv2d_input_grad", conv, ConvPass::input_grad, dy, packed,
              {dx, Index{p.n} * p.h * p.w * p.c, p.c, p.c_group, epilogue});
}

template <class T>
void weight_grad(const Conv2d& conv, float* dw, const T* x, const T* dy, const std::uint16_t* x_parts,
                 const std::uint16_t* dy_parts) {
  if (conv.k * conv.c * conv.r * conv.s == 0) return;
  const bool stem = weight_grad_runs_as_stem(conv),
             hopper = stem || weight_grad_runs_on_hopper(conv, precision());
  as_multiplied<T>(hopper, [&]<class Way>() {
    const auto *x_operand = operand_of<Way>(x, x_parts, Way::kParts),
               *dy_operand = operand_of<Way>(dy, dy_parts, Way::kParts);
    if constexpr (std::is_same_v<Way, AsTf32>) {
      if (stem) return weight_grad_of_stem<AsPair>(conv, dw, x, dy, nullptr);
      if (hopper) return weight_grad_flat(conv, dw, x, dy);
    } else if constexpr (!std::is_same_v<Way, AsFloats>) {
      if (stem) return weight_grad_of_stem<Way>(conv, dw, x, dy, dy_operand);
      if (hopper) return weight_grad_on_hopper<Way>(conv, dw, x, dy, x_operand, dy_operand);
    }
    if constexpr (!std::is_same_v<Way, AsFp32>)
      weight_grad_by_products<Way>(conv, dw, x, dy, x_operand, dy_operand);
  });
}

/// Whether most convolutions over so many channels take operands of BFloat16.
bool takes_parts(Index channels) {
  return channels % 8 == 0 && channels >= 32;
}
/// Of float32 only Hopper multiplies parts.
int parts(Index channels) {
  return precision() == Precision::fp32 && takes_parts(channels) && device::has_hopper() ? AsFp32::kParts : 0;
}
bool keeps_bf16(Index channels) {
  return precision() == Precision::bf16 && takes_parts(channels);
}

template <class T>
void fill(ActivationKernels<T, float>& table) {
  table.conv2d_forward = forward<T>;
  table.conv2d_moments = forward_with_moments<T>;
  table.conv2d_max_pool = max_pool<T>;
  table.conv2d_input_grad = input_grad<T>;
  table.conv2d_weight_grad = weight_grad<T>;
}

}  // namespace

void fill_conv2d_cuda(FloatKernels<float>& table) {
  fill<float>(table);
  table.conv2d_variant = variant;
  table.conv2d_packed_size = packed_size;
  table.conv2d_pack = pack;
  table.conv2d_parts = parts;
}

void fill_conv2d_bf16_cuda(Table& table) {
  table.keeps_bf16 = keeps_bf16;
  fill(table.bf16);
}

}  // namespace grapnel::kernels
