// The kernel table: every piece of arithmetic the engine needs, as plain function pointers over raw memory.
//
// The engine validates shapes and allocates; a kernel only computes, never allocates an output, never throws.
// All sizes and strides are in elements. One table per backend; the CPU has one per instruction set, chosen
// once (see select_cpu). Read next: gemm/microkernel.h, the inner loop behind matrix products and
// convolutions.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "grapnel/kernels/dtype.h"

namespace grapnel::kernels {

inline constexpr int kMaxRank = 8;

/// A loop nest of `rank` sizes (outermost first, rank >= 1) with one stride vector per operand.
/// The engine orders and merges dimensions so that the last one is the longest contiguous run it can find.
template <int Operands>
struct Loops {
  int rank;
  std::int64_t sizes[kMaxRank];
  std::int64_t strides[Operands][kMaxRank];
};

/// out = f(x). `a`, `b` are the parameters named in the comment.
enum class Unary : std::uint8_t {
  neg,
  exp,
  log,
  sqrt,
  abs,
  sign,        // -1, 0, 1
  relu,        // x > 0 ? x : 0, NaN stays NaN
  leaky_relu,  // x > 0 ? x : a*x
  sigmoid,
  tanh,
  reciprocal,
  pow,       // x^a
  clamp,     // min(max(x, a), b), NaN stays NaN
  between,   // a <= x && x <= b ? 1 : 0
  positive,  // x > 0 ? 1 : 0
  affine,    // a*x + b
};

/// out = f(x, y); comparisons give 1 or 0 in the operands' type.
enum class Binary : std::uint8_t {
  add,
  sub,
  mul,
  div,
  pow,
  maximum,
  minimum,
  equal,
  greater,
  relu_grad,  // y > 0 ? x : 0: x is the incoming gradient, y the ReLU's input or output
};

enum class Reduction : std::uint8_t { sum, max };

/// out[o] = reduction over r of x[o, r]: the kept dimensions index `out`, the reduced ones only `x`.
/// Either rank may be 0. An empty reduction gives 0 for sum (the engine refuses it for max).
/// Order of summation is fixed by the sizes and strides alone: same bits for any number of threads.
struct Reduce {
  int kept_rank;
  std::int64_t kept_sizes[kMaxRank];
  std::int64_t out_strides[kMaxRank];
  std::int64_t x_kept_strides[kMaxRank];
  int reduced_rank;
  std::int64_t reduced_sizes[kMaxRank];
  std::int64_t x_reduced_strides[kMaxRank];
};

/// What some devices multiply in place of floats: `count` bfloat16 values that add up to each as nearly as
/// the precision asks, the first of all elements in the order of their memory, then the second of all.
struct Parts {
  int count = 0;
  const std::uint16_t* input = nullptr;  ///< those of an operand, if somebody has them
  std::uint16_t* result = nullptr;       ///< where those of the result go besides; null: nowhere

  std::size_t bytes(std::int64_t elements) const {
    return static_cast<std::size_t>(count * elements) * sizeof(std::uint16_t);
  }
};

/// C (M,N) = A (M,K) B (K,N) + bias (N) broadcast over rows; bias may be null. If relu, then C = max(C, 0),
/// NaN stays NaN. Any strides for A and B; C has unit column stride.
struct Gemm {
  std::int64_t m, n, k;
  std::int64_t a_row, a_col;
  std::int64_t b_row, b_col;
  std::int64_t c_row;
  bool relu = false;
  const void* packed_b = nullptr;  ///< what gemm_pack made of B; null: nothing
};

/// In what form gemm reads B if it is packed, and how many bytes that takes. No name: it would not read it.
struct GemmPacking {
  const char* name = nullptr;
  std::size_t bytes = 0;
};

/// Cross-correlation of x (N,C,H,W) with w (K,C/groups,R,S) into y (N,K,OH,OW).
/// Activations are dense channels last (NHWC in memory); OH = (H + 2 pad_h - dil_h (R-1) - 1) / stride_h + 1.
struct Conv2d {
  std::int64_t n, c, h, w;
  std::int64_t k, r, s;
  std::int64_t oh, ow;
  std::int64_t stride_h, stride_w, pad_h, pad_w, dil_h, dil_w;
  std::int64_t groups;

  auto operator<=>(const Conv2d&) const = default;
};

/// Which of a convolution's three is computed: y from x, dx from dy, or dw from both.
enum class ConvPass : std::uint8_t { forward, input_grad, weight_grad };

/// What follows a value v in the same pass, in this order, each where it is set:
/// v = scale[c] v; v += shift[c]; v += residual; relu: v = max(v, 0), NaN stays NaN; mask: v = mask > 0 ? v :
/// 0; v = after[c] v. scale, shift and after have one value a channel; residual and mask lie like v.
template <class T, class V = T>
struct Epilogue {
  const V* scale = nullptr;
  const V* shift = nullptr;
  const T* residual = nullptr;
  bool relu = false;
  const T* mask = nullptr;
  const V* after = nullptr;
  Parts parts = {};
};

/// Sliding window over x (N,C,H,W) -> (N,C,OH,OW), both dense channels last.
struct Pool2d {
  std::int64_t n, c, h, w;
  std::int64_t oh, ow;
  std::int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w;
  bool count_include_pad;  // average pooling: divide by the whole window, padding included
};

/// x (N,C,H,W) resampled to (N,C,OH,OW), both dense channels last.
/// Source coordinate = (o + 0.5) * scale - 0.5, or o * scale with align_corners (see interpolate/README).
struct Interpolate {
  std::int64_t n, c, h, w, oh, ow;
  bool bilinear;       // otherwise nearest: floor(o * h / oh)
  bool align_corners;  // bilinear only
};

/// A dense parameter, its gradient, and what an optimizer keeps of it, `count` elements each; a step changes
/// all but g. SGD keeps at most v.
template <class T>
struct OptimTensor {
  std::int64_t count;
  T* p;
  const T* g;
  T* m;
  T* v;
};

/// g' = g + weight_decay * p, v = momentum * v + (1 - dampening) * g', and p -= lr * (nesterov ? g' +
/// momentum * v : v), or lr * g' where v is null.
struct SGDStep {
  double lr, momentum, dampening, weight_decay;
  bool nesterov;
};

/// g' = g + weight_decay * p, or if decoupled g' = g and p *= 1 - lr * weight_decay. Then
/// m = beta1 * m + (1 - beta1) * g', v = beta2 * v + (1 - beta2) * g'^2 and
/// p -= lr * (m / correction1) / (sqrt(v / correction2) + eps).
struct AdamStep {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
  double correction1, correction2;  // 1 - beta^step
};

/// An activation that is kept as T, or as V if nobody kept it, as a network's input; the other one is null.
template <class T, class V>
struct KeptOr {
  const T* kept = nullptr;
  const V* floats = nullptr;
};

/// Kernels whose operands are activations, of elements T; weights, and what has one value a channel, are V.
template <class T, class V = T>
struct ActivationKernels {
  /// What a convolution reads.
  using Input = std::conditional_t<std::is_same_v<T, V>, const T*, KeptOr<T, V>>;

  void (*reduce)(Reduction op, const Reduce& shape, V* out, const T* x);

  // y, or dx, is the epilogue of what the pass computes, of weights that FloatKernels' conv2d_pack packed.
  void (*conv2d_forward)(const Conv2d& shape, T* y, Input x, const V* packed, const Epilogue<T, V>& epilogue);
  void (*conv2d_input_grad)(const Conv2d& shape, T* dx, const T* dy, const V* packed,
                            const Epilogue<T, V>& epilogue);
  // y = the maxima of what conv2d_forward would give, which is never in memory as a whole. False, and nothing
  // done, where one after the other is the way. No parts of y are made.
  bool (*conv2d_max_pool)(const Conv2d& shape, const Pool2d& pool, T* y, Input x, const V* packed,
                          const Epilogue<T, V>& epilogue);
  // conv2d_forward, and of what it makes the mean and biased variance of each channel, for batch norm. Only
  // `shift` of the epilogue may be set. Null: channel_moments is the way.
  void (*conv2d_moments)(const Conv2d& shape, T* y, V* mean, V* variance, Input x, const V* packed,
                         const Epilogue<T, V>& epilogue);
  // dw is dense (K, C/groups, R, S) in row-major order. x_parts, dy_parts: as conv2d_parts counts them, or
  // null.
  void (*conv2d_weight_grad)(const Conv2d& shape, V* dw, const T* x, const T* dy,
                             const std::uint16_t* x_parts, const std::uint16_t* dy_parts);

  // Max pooling; `taps` receives for each output the winning window position kernel_w*i + j
  // (kernel_h*kernel_w <= 256), or is null when nobody will differentiate. First maximum wins; NaN wins over
  // everything.
  void (*max_pool2d)(const Pool2d& shape, T* y, std::uint8_t* taps, const T* x);
  void (*max_pool2d_scatter)(const Pool2d& shape, T* dx, const T* dy, const std::uint8_t* taps);
  void (*avg_pool2d)(const Pool2d& shape, V* y, const T* x);
  void (*avg_pool2d_adjoint)(const Pool2d& shape, T* dx, const V* dy);
  // Only n, c, h, w, oh, ow are read: window i covers [floor(i h / oh), ceil((i+1) h / oh)).
  void (*adaptive_avg_pool2d)(const Pool2d& shape, V* y, const T* x);
  void (*adaptive_avg_pool2d_adjoint)(const Pool2d& shape, T* dx, const V* dy);

  // Per-channel work over dense rows of `channels` values (channels last, rows = N*H*W).
  // mean and biased variance, both accumulated in double.
  void (*channel_moments)(std::int64_t rows, std::int64_t channels, V* mean, V* variance, const T* x);
  // y = the epilogue of x
  void (*channel_epilogue)(std::int64_t rows, std::int64_t channels, T* y, const T* x,
                           const Epilogue<T, V>& epilogue);
  // sum_dy[c] = sum dy, dot[c] = sum dy * (x - mean[c])
  void (*channel_dots)(std::int64_t rows, std::int64_t channels, V* sum_dy, V* dot, const T* dy, const T* x,
                       const V* mean);
  // dx = a[c] * dy + b[c] * (x - mean[c]) + d[c]
  void (*channel_blend)(std::int64_t rows, std::int64_t channels, T* dx, const T* dy, const T* x,
                        const V* mean, const V* a, const V* b, const V* d);
};

/// Kernels for one floating element type T (float or double).
template <class T>
struct FloatKernels : ActivationKernels<T> {
  void (*unary)(Unary op, const Loops<2>& loops, T* out, const T* x, double a, double b);
  void (*binary)(Binary op, const Loops<3>& loops, T* out, const T* x, const T* y);
  void (*gemm)(const Gemm& shape, T* c, const T* a, const T* b, const T* bias);

  // B, dense, packed for all products of its shape and precision() as it is now. Null: never.
  GemmPacking (*gemm_packing)(const Gemm& shape);
  void (*gemm_pack)(const Gemm& shape, void* packed, const T* b);

  // How many Parts conv2d's first two passes multiply of an input with so many channels, as precision() is
  // now. They make them unless they are given. 0: they read floats. Null: always.
  int (*conv2d_parts)(std::int64_t channels);
  // Elements are a multiple of 4.
  void (*make_parts)(std::int64_t count, std::int64_t elements, std::uint16_t* parts, const T* x);

  // Convolution. How a pass is computed depends on its shape alone, and on prefer_conv2d; conv2d_variant
  // names it ("direct", ...).
  // The weights of the first two passes are packed first (conv2d_packed_size elements, 64-byte aligned), once
  // per weight version and variant. w_strides: strides of w along (K, C/groups, R, S).
  const char* (*conv2d_variant)(const Conv2d& shape, ConvPass pass);
  std::size_t (*conv2d_packed_size)(const Conv2d& shape, ConvPass pass);
  void (*conv2d_pack)(const Conv2d& shape, ConvPass pass, T* packed, const T* w,
                      const std::int64_t* w_strides);

  // y = x at the winners of windows, which max_pool2d found.
  void (*max_pool2d_gather)(const Pool2d& shape, T* y, const T* x, const std::uint8_t* taps);

  // Batch norm as y = scale x + shift: scale = weight / sqrt(variance + eps), shift = bias - scale * mean.
  // weight and bias may be null: 1 and 0.
  void (*channel_affine)(std::int64_t channels, double eps, T* scale, T* shift, const T* mean,
                         const T* variance, const T* weight, const T* bias);
  // Of its gradients, with s = 1 / sqrt(variance + eps): dweight = s dot, and for channel_blend a = s weight,
  // b = -a s^2 dot / rows and d = -a sum_dy / rows, or 0 unless training.
  void (*channel_factors)(std::int64_t rows, std::int64_t channels, double eps, bool training, T* dweight,
                          T* a, T* b, T* d, const T* sum_dy, const T* dot, const T* variance,
                          const T* weight);
  // running = (1 - momentum) running + momentum * factor * batch
  void (*channel_average)(std::int64_t channels, double momentum, double factor, T* running, const T* batch);

  // Row-wise over dense x (rows, columns), maximum subtracted first.
  void (*softmax)(std::int64_t rows, std::int64_t columns, T* y, const T* x);
  void (*log_softmax)(std::int64_t rows, std::int64_t columns, T* y, const T* x);

  void (*interpolate)(const Interpolate& shape, T* y, const T* x);
  void (*interpolate_adjoint)(const Interpolate& shape, T* dx, const T* dy);

  // y[i, j, l] = x[i, index[j], l] and x[i, index[j], l] += y[i, j, l] for dense x (outer, size, inner) and
  // y (outer, count, inner). Repeated indices accumulate in order of j.
  void (*index_select)(std::int64_t outer, std::int64_t size, std::int64_t count, std::int64_t inner, T* y,
                       const T* x, const std::int64_t* index);
  void (*index_add)(std::int64_t outer, std::int64_t size, std::int64_t count, std::int64_t inner, T* x,
                    const T* y, const std::int64_t* index);
  // y[i, j, l] = x[i, index[i, j, l], l] and x[i, index[i, j, l], l] += y[i, j, l]; index is shaped like y.
  void (*gather)(std::int64_t outer, std::int64_t size, std::int64_t count, std::int64_t inner, T* y,
                 const T* x, const std::int64_t* index);
  void (*scatter_add)(std::int64_t outer, std::int64_t size, std::int64_t count, std::int64_t inner, T* x,
                      const T* y, const std::int64_t* index);
  // index (outer, inner) = position of the first maximum (NaN counts as largest) along `size` of dense x
  // (outer, size, inner)
  void (*argmax)(std::int64_t outer, std::int64_t size, std::int64_t inner, std::int64_t* index, const T* x);

  // One step over `tensors` tensors that share no memory.
  void (*sgd)(const SGDStep& step, std::int64_t tensors, const OptimTensor<T>* list);
  void (*adam)(const AdamStep& step, std::int64_t tensors, const OptimTensor<T>* list);
};

/// Everything one backend can do.
struct Table {
  const char* name;  // "reference", "portable", "avx2", "avx512", ...
  FloatKernels<float> f32;
  FloatKernels<double> f64;
  /// Over activations that are kept as bfloat16, if keeps_bf16 says so of their number of channels and of
  /// precision() as it is now. Null: never.
  ActivationKernels<BFloat16, float> bf16;
  bool (*keeps_bf16)(std::int64_t channels);
  /// dst = convert(src), any strides, any pair of types (round to nearest even; float to integer truncates).
  void (*copy)(const Loops<2>& loops, void* dst, DType dst_type, const void* src, DType src_type);
};

/// The CPU tables this machine can run, fastest first; the last one is "reference". `count` receives how
/// many.
const Table* const* cpu_tables(int* count) noexcept;

/// The fastest CPU table, or the one named by the environment variable GRAPNEL_KERNEL; null if that names
/// none that runs here. The choice is made once.
const Table* select_cpu() noexcept;

/// Names for prefer_conv2d, and for the environment variable GRAPNEL_CONV, which has the last word.
inline constexpr const char* kConv2dVariants[] = {"direct",       "winograd2",     "winograd4",
                                                  "winograd4few", "winograd4rows", "winograd6"};
/// From now on fast CPU tables compute this pass of this shape by `variant`, where that can; null: as the
/// shape alone decides. Not while anybody computes a convolution.
void prefer_conv2d(const Conv2d& shape, ConvPass pass, const char* variant);

/// Number of threads the kernels use; 0 asks for all cores this process may run on.
void set_num_threads(int threads) noexcept;
int num_threads() noexcept;

}  // namespace grapnel::kernels
